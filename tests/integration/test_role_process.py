"""What a role's process does by itself: which signals it heeds, how it ends, and how many files it may open."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from process.http import bind
from process.lifecycle import FILES_MAX, _raise_file_limit
from tests.in_process import free_port
from tests.processes import ROOT, Processes
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

INFINITY = resource.RLIM_INFINITY
MAX, MACOS = FILES_MAX


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    async with Processes(tmp_path, {"PULSAR_URL": "memory:"}) as started:
        yield started


@pytest.fixture
def no_hangup() -> Iterator[None]:
    """What is started meanwhile ignores SIGHUP, as what nohup starts does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def few_files() -> Iterator[int]:
    """What is started meanwhile may open few files, unless it asks for more: so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield min(hard, MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_and_the_end_of_the_terminal_ask_a_role_to_leave_in_order(
    processes: Processes, number: int
) -> None:
    node = await processes.node()
    os.kill(node.pid, number)
    await until(lambda: not node.running)
    assert await node.stop() == 0
    assert "The node has left." in node.log.read_text()


async def test_a_role_outlives_the_terminal_where_whoever_started_it_wants_that(
    processes: Processes, no_hangup: None
) -> None:
    node = await processes.node()
    os.kill(node.pid, signal.SIGHUP)
    await node.ready()
    assert "finishes its work" not in node.log.read_text()
    assert await node.stop() == 0


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="the limits of others are told on Linux only")
async def test_a_role_may_have_as_many_clients_as_the_machine_lets_it(processes: Processes, few_files: int) -> None:
    """Each is an open file. Beyond the limit they would be hung up on without a word."""
    gateway = await processes.gateway()
    assert psutil.Process(gateway.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == few_files


@pytest.mark.parametrize(
    ("limits", "granted_max", "wanted"),
    [
        ((1024, 20_000), INFINITY, 20_000),
        ((1024, 10 * MAX), INFINITY, MAX),
        ((1024, INFINITY), INFINITY, MAX),
        ((256, INFINITY), MACOS, MACOS),
        ((256, 20_000), 256, 256),
        ((20_000, 20_000), INFINITY, 20_000),
        ((2 * MAX, INFINITY), INFINITY, 2 * MAX),
        ((INFINITY, INFINITY), INFINITY, INFINITY),
    ],
)
def test_the_limit_of_files_is_never_lowered_nor_asked_for_beyond_what_is_granted(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], granted_max: int, wanted: int
) -> None:
    now = limits

    def grant(_: int, new: tuple[int, int]) -> None:
        nonlocal now
        if granted_max != INFINITY and new[0] > granted_max:
            raise ValueError("current limit exceeds maximum limit")
        now = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: now)
    monkeypatch.setattr(resource, "setrlimit", grant)
    _raise_file_limit()
    assert now == (wanted, limits[1])


def ended(role: str, **env: str) -> tuple[int, list[str]]:
    """The exit code of a role that cannot go on, and what it says."""
    told = subprocess.run(
        [sys.executable, "-m", "fleet", role],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PULSAR_URL": "memory:", "LOG_LEVEL": "error", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stdout == ""
    return told.returncode, told.stderr.splitlines()


@pytest.mark.parametrize("role", ["gateway", "node", "management", "up"])
def test_a_role_whose_port_is_taken_ends_with_3_and_names_the_setting(role: str, tmp_path: Path) -> None:
    ports = {name: str(free_port()) for name in ("PORT", "NODE_PORT", "MANAGEMENT_PORT")}
    setting = {"node": "NODE_PORT", "management": "MANAGEMENT_PORT"}.get(role, "PORT")
    with bind("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        database = f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
        code, lines = ended(role, **(ports | {setting: str(port)}), DATABASE_URL=database)
    assert code == 3
    (line,) = lines
    assert line.startswith(f"127.0.0.1:{port} cannot be listened on (")
    assert line.endswith(f"): set {setting} to another.")


@pytest.mark.parametrize(
    ("role", "wrong"), [("gateway", "PORT"), ("node", "NODE_PORT"), ("management", "MANAGEMENT_PORT"), ("up", "PORT")]
)
def test_a_role_with_wrong_settings_ends_with_2_and_a_line_for_each(role: str, wrong: str) -> None:
    code, lines = ended(role, LOG_FORMAT="pretty", **{wrong: "many"})
    assert code == 2
    assert sorted(line.partition(":")[0] for line in lines) == sorted(["LOG_FORMAT", wrong])


@pytest.mark.parametrize("role", ["gateway", "node"])
def test_what_only_shows_when_a_setting_is_used_ends_a_role_with_2_as_well(role: str) -> None:
    port = "PORT" if role == "gateway" else "NODE_PORT"
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "nonsense"}
    code, lines = ended(role, **{port: str(free_port())}, **otel)
    assert code == 2
    assert [line.partition(":")[0] for line in lines] == ["OTEL_EXPORTER_OTLP_HEADERS"]
