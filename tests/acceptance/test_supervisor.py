"""The supervisor with real processes: what it starts, it stops, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.in_process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


def until(what: str, condition: Callable[[], bool], wait_s: float = DEADLINE_S) -> None:
    """Return when `condition` holds; fail with `what` at the deadline."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"within {wait_s:g} s it did not happen that {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Start:
    """A supervisor over stand-in roles, in a process group of its own like one started from a terminal."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = directory / "journal"
        self._waves: list[list[dict[str, Any]]] = []
        self._manner: dict[str, Any] = {"start_wait_s": 20.0, "stop_wait_s": 10.0}
        self.process: subprocess.Popen[str] | None = None
        self.out = directory / "out"
        self.err = directory / "err"

    def manner(self, **changes: Any) -> Start:
        self._manner.update(changes)
        return self

    def wave(self, *roles: dict[str, Any]) -> Start:
        self._waves.append(list(roles))
        return self

    def role(self, name: str, *options: str, **settings: Any) -> dict[str, Any]:
        port = free_port()
        argv = (sys.executable, "-m", "tests.acceptance.stand_in", name, str(self._journal), "--port", str(port))
        return {"name": name, "argv": [*argv, *options], "ready_urls": [f"http://127.0.0.1:{port}/readyz"], **settings}

    def begin(self, *before: str) -> Start:
        plan = self._directory / "plan.json"
        plan.write_text(json.dumps({"manner": self._manner, "waves": self._waves}))
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                (*before, sys.executable, "-m", "tests.acceptance.supervised", str(plan)),
                cwd=ROOT,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        return self

    def ready(self) -> Start:
        until("all were ready", lambda: "all are ready" in self.out.read_text() or not self.alive)
        assert self.alive, self.err.read_text()
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: int, *, to_group: bool = False) -> None:
        assert self.process
        (os.killpg if to_group else os.kill)(self.process.pid, number)

    def code(self) -> int:
        assert self.process
        return self.process.wait(DEADLINE_S)

    def journal(self, word: str) -> list[str]:
        """The names of the roles that wrote `word`, in the order of time."""
        return [name for name, said, _ in self._entries() if said == word]

    def pids(self, name: str = "") -> list[int]:
        return [int(pid) for who, said, pid in self._entries() if said in ("started", "left") and name in ("", who)]

    def _entries(self) -> list[list[str]]:
        return [line.split() for line in self._journal.read_text().splitlines()] if self._journal.exists() else []

    def assert_nothing_left(self) -> None:
        assert self.pids(), "no role was ever started"
        until("every process was gone", lambda: not any(map(is_running, self.pids())))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    one = Start(tmp_path)
    yield one
    if one.process:
        one.process.kill()
        one.process.wait()
    for pid in one.pids():
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def three(start: Start) -> Start:
    """A broker, then management, node and gateway together: the plan of a whole start."""
    start.wave(start.role("pulsar", blame=4))
    return start.wave(start.role("management"), start.role("node"), start.role("gateway"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_roles_in_order_and_ends_with_0(start: Start, number: int) -> None:
    three(start).begin().ready().send(number, to_group=True)  # as a terminal does it for Ctrl-C
    assert start.code() == 0
    assert start.journal("stopped") == ["gateway", "node", "management", "pulsar"]
    assert start.journal("SIGINT") == [], "the terminal's signal reached a role"
    assert start.err.read_text() == ""
    start.assert_nothing_left()


def test_a_signal_that_whoever_started_us_ignores_is_not_for_us(start: Start) -> None:
    three(start).begin("nohup").ready().send(signal.SIGHUP)
    start.send(signal.SIGTERM)
    assert start.code() == 0
    assert "SIGTERM: stopping" in start.out.read_text()
    assert "SIGHUP" not in start.out.read_text()
    start.assert_nothing_left()


def test_a_wave_begins_when_the_one_before_it_is_ready(start: Start) -> None:
    start.wave(start.role("pulsar", "--never-ready", blame=4)).wave(start.role("gateway"))
    start.manner(start_wait_s=1.5).begin()
    assert start.code() == 4
    assert start.journal("started") == ["pulsar"]
    start.assert_nothing_left()


def test_a_task_must_succeed_before_the_next_wave(start: Start) -> None:
    start.wave({"name": "pull", "argv": [sys.executable, "-c", "print('pulled')"], "once": True})
    start.wave(start.role("gateway")).begin().ready().send(signal.SIGTERM)
    assert start.code() == 0
    assert "pull       | pulled" in start.out.read_text()


def test_a_task_that_fails_ends_the_start(start: Start) -> None:
    start.wave(start.role("gateway"))
    start.wave({"name": "pull", "argv": [sys.executable, "-c", "raise SystemExit('no such image')"], "once": True})
    start.begin()
    assert start.code() == 1
    assert "pull ended with code 1" in start.err.read_text()
    assert "no such image" in start.err.read_text()
    start.assert_nothing_left()


def test_lines_of_the_roles_are_shown_with_their_names(start: Start) -> None:
    three(start).begin().ready().send(signal.SIGTERM)
    start.code()
    assert "gateway    | gateway says hello\n" in start.out.read_text()
    assert "node       | node says hello\n" in start.out.read_text()


def test_a_role_that_talks_much_has_a_log_and_its_last_words_are_shown_when_it_fails(start: Start) -> None:
    log = start.out.with_name("logs") / "broker.log"
    start.wave(start.role("pulsar", "--die", "9", blame=4, log=str(log))).begin()
    assert start.code() == 4
    assert log.read_text() == "pulsar says hello\nPORT=x is not a number\n"
    assert start.out.read_text() == f"pulsar     | its log is {log}\n"
    assert "  PORT=x is not a number" in start.err.read_text()


def test_a_log_that_somebody_cuts_goes_on_at_its_beginning(start: Start, tmp_path: Path) -> None:
    log, cut = tmp_path / "broker.log", tmp_path / "cut"
    log.write_text("of an earlier start\n")
    program = """
import sys, time
from pathlib import Path
print("one")
while not Path(sys.argv[1]).exists(): time.sleep(0.01)
print("two")
"""
    role = {"name": "pulsar", "argv": [sys.executable, "-uc", program, str(cut)], "once": True, "log": str(log)}
    start.wave(role).begin()
    until("it spoke", lambda: log.read_text() == "one\n")
    os.truncate(log, 0)
    cut.touch()
    until("it spoke again", lambda: log.read_bytes() == b"two\n")


def test_a_log_that_cannot_be_written_is_named(start: Start) -> None:
    start.out.with_name("file").touch()
    log = start.out.with_name("file") / "broker.log"
    start.wave(start.role("pulsar", log=str(log))).begin()
    assert start.code() == 2
    assert f"pulsar: its log {log} cannot be written" in start.err.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_what_a_full_disk_does_not_take_is_shown(start: Start) -> None:
    start.wave(start.role("pulsar", log="/dev/full")).begin().ready().send(signal.SIGTERM)
    assert start.code() == 0
    assert "pulsar     | its log cannot be written any more: [Errno 28]" in start.out.read_text()
    assert "pulsar     | pulsar says hello\n" in start.out.read_text()


def test_a_role_that_dies_before_it_is_ready_ends_the_wait_with_its_last_lines(start: Start) -> None:
    start.wave(start.role("management"), start.role("gateway", "--die", "9")).begin()
    assert start.code() == 1
    said = start.err.read_text()
    assert "gateway ended with code 9 before everything was ready; its last lines:" in said
    assert "  PORT=x is not a number" in said
    start.assert_nothing_left()


@pytest.mark.parametrize("code", [2, 3])
def test_a_role_that_names_a_wrong_setting_or_a_port_in_use_gives_the_start_its_code(start: Start, code: int) -> None:
    start.wave(start.role("gateway", "--die", str(code))).begin()
    assert start.code() == code


def test_a_role_that_dies_later_stops_the_others(start: Start) -> None:
    three(start).begin().ready()
    os.kill(start.pids("node")[0], signal.SIGUSR1)
    assert start.code() == 1
    assert "node ended with code 7 by itself" in start.err.read_text()
    assert start.journal("stopped") == ["gateway", "management", "pulsar"]
    start.assert_nothing_left()


def test_a_role_that_may_leave_does_not_stop_the_others(start: Start) -> None:
    start.wave(start.role("node", may_leave=True), start.role("gateway")).begin().ready()
    (node,) = start.pids("node")
    os.kill(node, signal.SIGTERM)
    until("the node was gone", lambda: not psutil.pid_exists(node))
    start.send(signal.SIGTERM)
    assert start.code() == 0
    assert start.journal("stopped") == ["node", "gateway"]


@pytest.mark.parametrize(("code", "ready"), [(0, False), (7, True)])
def test_a_role_that_may_leave_does_not_before_all_are_ready_nor_by_dying(
    start: Start, code: int, *, ready: bool
) -> None:
    start.wave(start.role("node", *(() if ready else ("--die", "0")), may_leave=True), start.role("gateway")).begin()
    if ready:
        os.kill(start.ready().pids("node")[0], signal.SIGUSR1)
    assert start.code() == 1
    assert f"node ended with code {code} " in start.err.read_text()


def test_a_role_that_is_not_ready_in_time_is_named_with_what_it_last_said(start: Start) -> None:
    start.wave(start.role("management"), start.role("node", "--never-ready")).manner(start_wait_s=1.5).begin()
    assert start.code() == 5
    said = start.err.read_text()
    assert len(said.splitlines()) == 1
    assert re.search(r"node was not ready within 1.5 s \(http://\S+ said: 503 .*the model is not loaded", said)
    assert "START_WAIT_S" in said
    start.assert_nothing_left()


def test_a_signal_during_the_start_is_obeyed(start: Start) -> None:
    start.wave(start.role("pulsar", "--never-ready")).wave(start.role("gateway")).begin()
    until("the broker had started", lambda: start.journal("started") == ["pulsar"])
    start.send(signal.SIGTERM)
    assert start.code() == 0
    assert start.journal("started") == ["pulsar"]
    start.assert_nothing_left()


def test_a_role_that_does_not_stop_is_killed_with_its_process_group(start: Start) -> None:
    start.wave(start.role("node", "--deaf", "--beside")).manner(stop_wait_s=0.5).begin().ready().send(signal.SIGTERM)
    assert start.code() == 0
    assert "node did not stop in time and is killed" in start.out.read_text()
    start.assert_nothing_left()


def test_a_second_signal_stops_at_once(start: Start) -> None:
    start.wave(start.role("node", "--deaf")).manner(stop_wait_s=600.0).begin().ready().send(signal.SIGINT)
    until("it was told to stop", lambda: start.journal("SIGTERM") == ["node"])
    start.send(signal.SIGINT)
    assert start.code() == 0
    start.assert_nothing_left()


def test_the_end_of_a_terminal_is_told_twice_and_does_not_hurry(start: Start) -> None:
    start.wave(start.role("node", "--deaf")).manner(stop_wait_s=600.0).begin().ready().send(signal.SIGHUP)
    until("it was told to stop", lambda: start.journal("SIGTERM") == ["node"])
    start.send(signal.SIGHUP)
    until("it has heard that too", lambda: start.out.read_text().count("SIGHUP: stopping") == 2)
    assert "at once" not in start.out.read_text()
    assert start.alive
    start.send(signal.SIGINT)
    assert start.code() == 0
    start.assert_nothing_left()


@pytest.mark.skipif(sys.platform != "linux", reason="orphans come to the supervisor on Linux only")
def test_a_process_that_a_role_left_in_a_session_of_its_own_is_ended_too(start: Start) -> None:
    start.wave(start.role("node", "--leave")).begin().ready().send(signal.SIGTERM)
    assert start.code() == 0
    assert not any(map(is_running, start.pids()))


def test_nothing_outlives_a_supervisor_that_is_killed(start: Start) -> None:
    undone = start.out.with_name("undone")
    undo = [sys.executable, "-c", f"open({str(undone)!r}, 'w').close()"]
    start.wave(start.role("pulsar", undo=undo))
    start.wave(start.role("node", "--deaf", "--beside"), start.role("gateway"))
    start.manner(stop_wait_s=1.0).begin().ready().send(signal.SIGKILL)
    start.code()
    start.assert_nothing_left()
    until("what was made was removed", undone.exists)
    assert set(start.journal("stopped")) == {"pulsar", "gateway"}, "they were not asked to stop first"


def test_what_a_role_makes_is_undone_after_it_has_ended(start: Start) -> None:
    undone = start.out.with_name("undone")
    role = start.role("pulsar", undo=[sys.executable, "-c", f"open({str(undone)!r}, 'w').close()"])
    start.wave(role).begin().ready()
    assert not undone.exists()
    start.send(signal.SIGTERM)
    assert start.code() == 0
    assert undone.exists()


def test_a_program_that_is_missing_is_named(start: Start) -> None:
    start.wave(start.role("gateway")).wave({"name": "pull", "argv": ["no-such-docker", "pull"], "once": True}).begin()
    assert start.code() == 6
    assert start.err.read_text() == "pull: cannot run no-such-docker: No such file or directory\n"
    start.assert_nothing_left()


def test_a_reader_that_goes_away_does_not_stop_the_fleet(start: Start) -> None:
    start.wave(start.role("gateway"))
    plan = start.out.with_name("plan.json")
    start.begin().ready().send(signal.SIGTERM)
    start.code()
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.acceptance.supervised", str(plan)), cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        process.stdout.close()
        until("it had started again", lambda: len(start.pids("gateway")) == 2)
        pid = start.pids("gateway")[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert not is_running(pid)
    finally:
        process.kill()
        process.wait()


def test_as_process_1_would_it_stops_all_at_once_and_passes_the_code_on(start: Start) -> None:
    start.manner(stop_together=True, pass_on_code=True, inherit_output=True)
    start.wave(start.role("node"), start.role("gateway")).begin().ready()
    assert "gateway says hello\n" in start.out.read_text().splitlines(keepends=True)
    os.kill(start.pids("node")[0], signal.SIGUSR1)
    assert start.code() == 7
    assert start.journal("stopped") == ["gateway"]
    start.assert_nothing_left()


def run_fleet(arguments: tuple[str, ...], directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fleet …` in an empty directory, with nothing of this machine's settings but its PATH."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(directory), **environment}
    return subprocess.run(
        (sys.executable, "-m", "fleet", *arguments),
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_in_use_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ended = run_fleet(("start",), tmp_path, NODE_PORT=str(port), PORT=str(free_port()))
    assert ended.returncode == 3
    assert f"port {port} on 127.0.0.1 (the node) is in use: stop what listens there, or wait" in ended.stderr


def test_wrong_settings_are_named_a_line_each(tmp_path: Path) -> None:
    ended = run_fleet(("start",), tmp_path, PORT="x", START_WAIT_S="-1")
    assert ended.returncode == 2
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["PORT=x", "START_WAIT_S=-1"]


def test_a_broker_that_nobody_runs_is_named(tmp_path: Path) -> None:
    ports = dict(zip(("PORT", "MANAGEMENT_PORT", "NODE_PORT"), map(str, (free_port() for _ in range(3))), strict=True))
    url = f"pulsar://127.0.0.1:{free_port()}"
    ended = run_fleet(("start",), tmp_path, PULSAR_URL=url, **ports)
    assert ended.returncode == 4
    assert ended.stderr.startswith(f"the broker at {url} cannot be reached (Connection refused): start it, correct")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"PULSAR_URL": "pulsar://[::1"}, 2, "PULSAR_URL=pulsar://[::1 is no service URL"),
        ({"PULSAR_URL": "pulsar://a..b:6650"}, 4, "a..b is no name of a host"),
        ({"HOST": "nonsense..host"}, 3, "nonsense..host is no name of a host (the gateway)"),
        ({"NODE_HOST": "203.0.113.9"}, 3, "set NODE_HOST to another"),
    ],
)
def test_a_host_that_can_be_none_is_named(tmp_path: Path, wrong: dict[str, str], code: int, words: str) -> None:
    ports = dict(zip(("PORT", "MANAGEMENT_PORT", "NODE_PORT"), map(str, (free_port() for _ in range(3))), strict=True))
    ended = run_fleet(("start",), tmp_path, **(ports | wrong))
    assert (ended.returncode, words in ended.stderr) == (code, True), ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Cannot connect to the Docker daemon",
            "the Docker daemon is not running (Cannot connect to the Docker daemon)",
        ),
        (
            "permission denied while trying to connect",
            "the Docker daemon does not let this user in (permission denied ",
        ),
    ],
)
def test_a_docker_command_without_a_daemon_is_not_enough(tmp_path: Path, said: str, told: str) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    docker.chmod(0o755)
    ports = {name: str(free_port()) for name in ("PORT", "MANAGEMENT_PORT", "NODE_PORT", "PULSAR_PORT")}
    path = f"{docker.parent}:{os.environ['PATH']}"
    ended = run_fleet(("start", "--pulsar", "docker"), tmp_path, PATH=path, PULSAR_ADMIN_PORT=str(free_port()), **ports)
    assert ended.returncode == 6
    assert ended.stderr.startswith(told)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "library"), [("start", "dotenv"), ("container", "dotenv"), ("up", "uvloop"), ("node", "uvloop")]
)
def test_a_signal_that_comes_while_a_command_is_being_read_ends_it_with_0(
    tmp_path: Path, command: str, library: str, number: signal.Signals
) -> None:
    """Process 1 of a container would never hear of SIGTERM, and Ctrl-C would end as a failure."""
    # While an object is finalised, as the locks of modules are: what is raised then goes nowhere.
    (tmp_path / f"{library}.py").write_text(
        f"import signal, weakref\nclass One: ...\none = One()\n"
        f"finalised = weakref.ref(one, lambda _: signal.raise_signal({number.value}))\ndel one\n"
    )
    ended = run_fleet((command,), tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


ROLE_THAT_STOPS = """
async def role(stop):
    os.kill(os.getpid(), number)
    await stop.wait()
run_until_signal(role)
"""
FLEET_THAT_STOPS = """
supervisor = Supervisor((), Manner(5, 5), lambda *_: None)
asyncio.run(supervisor.run(lambda: os.kill(os.getpid(), number)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stops", [ROLE_THAT_STOPS, FLEET_THAT_STOPS], ids=["role", "fleet"])
def test_a_signal_that_comes_when_all_has_stopped_leaves_the_code_at_0(stops: str, number: signal.Signals) -> None:
    """Who presses Ctrl-C until the prompt is back hears of no failure."""
    program = f"""
import asyncio, os, signal, sys
from fleet.start.supervisor import Manner, Supervisor
from process.lifecycle import run_until_signal
number = {number.value}
signal.signal(number, lambda *_: os._exit(0))  # as fleet.__main__ has it
{stops}
os.kill(os.getpid(), number)
sys.exit("it goes on")
"""
    argv = (sys.executable, "-c", program)
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_container_ends_with_the_code_of_a_role_that_died(tmp_path: Path) -> None:
    ended = run_fleet(("container", "node"), tmp_path, NODE_PORT="x")
    assert ended.returncode == 2
    assert "NODE_PORT" in ended.stderr
