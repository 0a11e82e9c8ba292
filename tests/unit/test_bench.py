"""The measuring tools: what they count must be true before what they measure can be."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from bench import comparison, figure, process_tree, remote_engine
from bench.arm import DIRECT, LITELLM, PULSAR, Arm
from bench.arms.ours import effective
from bench.comparison import Comparison, Plan, bearable, rotated
from bench.environment import LOCKS, version
from bench.fleet_processes import FleetProcesses
from bench.generator import Sample
from bench.spread import Spread, percentile
from bench.table import Table, spread_text
from bench.window import why_void
from bench.workload import WORKLOADS
from tests.bench_windows import window

if TYPE_CHECKING:
    from pathlib import Path

    from bench.window import Window
    from bench.workload import Workload


def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 100) == 100
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


def test_a_spread_tells_median_least_and_greatest_of_its_rounds() -> None:
    assert Spread.of([3.0, 1.0, 2.00004]) == Spread(2.0, 1.0, 3.0, [3.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


def test_a_table_reads_as_markdown_and_as_text() -> None:
    table = Table("Title", ["a", "bb"], [["x", "1"]])
    assert table.as_markdown() == "**Title**\n\n| a | bb |\n| --- | ---: |\n| x | 1 |"
    assert table.as_text() == "Title\na  bb\nx   1"


def test_a_spread_is_shown_with_three_digits_and_its_rounds_only_if_there_are_several() -> None:
    assert spread_text(Spread.of([123.4])) == "123"
    assert spread_text(Spread.of([0.125, 12.34, 1234.0])) == "12.3 (0.12…1234)"
    assert spread_text(None) == ""


BUSY = "t = __import__('time').process_time\nwhile t() < 0.3: pass"


def test_the_cpu_of_a_tree_has_that_of_children_who_live_and_of_those_who_have_ended() -> None:
    program = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {BUSY!r}], check=True)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {BUSY + chr(10) + 'print(1, flush=True); input()'!r}],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print('ready', flush=True); input()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        both = process_tree.cpu_s(process.pid)
        resident = process_tree.resident_bytes(process.pid)
        process.stdin.write("\n")
    assert both >= 0.55
    assert resident > 2 * 2**20


def test_what_was_started_for_a_measurement_is_gone_with_its_block() -> None:
    with FleetProcesses() as fleet:
        process = fleet.start("sleeper", [sys.executable, "-c", "input()"], {}, [])
        assert process.resident_bytes > 0
        home = fleet.home
        pid = process.pid
    with pytest.raises(psutil.NoSuchProcess):
        process_tree.cpu_s(pid)
    assert not home.exists()


def sample(*, answers: int = 1, failed: int = 0, first_error: str = "", hung_up: int = 0) -> Sample:
    return Sample(
        answers=answers,
        failed=failed,
        first_error=first_error,
        hung_up=hung_up,
        seconds=1.0,
        answers_per_s=float(answers),
        chunks=50 * answers,
        cpu_s=0.1,
        first_ms=None,
        total_ms=None,
        chunk_delay_ms=None,
    )


def test_one_error_voids_a_window_also_of_clients_beside() -> None:
    assert why_void(sample()) == ""
    assert why_void(sample(answers=0, hung_up=3)) == ""
    assert why_void(sample(answers=999, failed=1, first_error="token 8 came where 7 was due")) == (
        "token 8 came where 7 was due"
    )
    assert why_void(sample(), sample(failed=1, first_error="status 503")) == "status 503"
    assert why_void(sample(answers=0)) == "nobody was answered"


def run(monkeypatch: pytest.MonkeyPatch, voids: set[tuple[str, int]], rounds: int) -> list[Window]:
    """The windows of a run of two arms; void are those of (arm, how often it was seen)."""
    seen: dict[str, int] = {}

    def observe(arm: Arm, workload: Workload, *, rate: float, seconds: float, round_: int) -> Window:
        number = seen[arm.name] = seen.get(arm.name, -1) + 1 if round_ >= 0 else -1
        void = "status 500" if (arm.name, number) in voids else ""
        return window(round_, workload.name, arm.name, void=void, rate=rate, answers_per_s=100.0)

    arms = {name: lambda _fleet, name=name: Arm(name, "http://nowhere", "1") for name in (DIRECT, LITELLM)}
    monkeypatch.setattr(comparison, "observe", observe)
    monkeypatch.setattr(comparison, "ARMS", arms)
    monkeypatch.setattr(FleetProcesses, "upstream", lambda _fleet: None)
    workloads = [WORKLOADS["whole-1"], WORKLOADS["whole-500"]]
    plan = Plan([LITELLM], workloads, rounds, seconds=0, starts=1, idle_s=0, calibration_s=0, calibrations_max=9)
    with FleetProcesses() as fleet:
        return Comparison(fleet, plan).run("test").windows


def test_a_void_window_is_measured_once_more_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = run(monkeypatch, {(LITELLM, 0), (LITELLM, 3), (LITELLM, 4)}, rounds=2)
    told = [(each.round, each.workload, bool(each.void)) for each in windows if each.arm == LITELLM]
    assert told == [
        (0, "whole-1", True),
        (0, "whole-1", False),
        (0, "whole-500", False),
        (1, "whole-1", True),
        (1, "whole-1", True),
        (1, "whole-500", False),
    ]


@pytest.mark.parametrize(
    ("costs", "windows"),
    [
        pytest.param([4.0, 3.0, 2.0, 1.99, 1.98, 2.5, 1.97, 1.0], 7, id="no cheaper"),
        pytest.param([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5], 9, id="at most"),
        pytest.param([0.0] * 9, 5, id="without processes of its own"),
    ],
)
def test_an_arm_is_warm_when_its_answers_get_no_cheaper(
    monkeypatch: pytest.MonkeyPatch, costs: list[float], windows: int
) -> None:
    asked: dict[str, list[Window]] = {"whole-16": [], "stream-16": []}

    def observe(arm: Arm, workload: Workload, *, round_: int, **_: float) -> Window:
        of = asked.setdefault(workload.name, [])
        cost = costs[len(of)] if workload.name in ("whole-16", "stream-16") else 1.0
        of.append(window(round_, workload.name, arm.name, answers=10, answers_per_s=len(of), cpu_s={"all": 10 * cost}))
        return of[-1]

    monkeypatch.setattr(comparison, "observe", observe)
    monkeypatch.setattr(comparison, "ARMS", {DIRECT: lambda _fleet: Arm(DIRECT, "http://nowhere", "1")})
    monkeypatch.setattr(FleetProcesses, "upstream", lambda _fleet: None)
    plan = Plan([], [], rounds=0, seconds=0, starts=1, idle_s=0, calibration_s=0, calibrations_max=9)
    with FleetProcesses() as fleet:
        result = Comparison(fleet, plan).run("test")
    assert [len(seen) for seen in asked.values()] == [windows, windows]
    assert result.arms[DIRECT].closed_per_s == {"whole": windows - 1, "stream": windows - 1}


def test_the_arms_take_turns_and_each_round_begins_with_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = run(monkeypatch, set(), rounds=2)
    order = [(each.round, each.arm) for each in windows if each.workload == "whole-1"]
    assert order == [(0, DIRECT), (0, LITELLM), (1, LITELLM), (1, DIRECT)]
    assert rotated([1, 2, 3], 4) == [2, 3, 1]


def test_an_arm_is_asked_at_the_rate_that_it_can_bear(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bearable(500, 10_000) == 500
    assert bearable(500, 82.1) == 66
    assert bearable(500, 0.1) == 1
    assert bearable(0, 82.1) == 0
    windows = run(monkeypatch, set(), rounds=1)
    assert {each.workload: each.rate for each in windows} == {"whole-1": 0, "whole-500": 80}


def test_the_cost_of_a_request_is_that_of_all_roles_or_of_some() -> None:
    seen = window(0, "whole-500", PULSAR, answers=1000, chunks=50_000, cpu_s={"gateway": 0.5, "broker": 1.5})
    assert figure.CPU.of(seen, ()) == pytest.approx(2.0)
    assert figure.CPU.of(seen, ("gateway",)) == pytest.approx(0.5)
    assert figure.CPU_PER_CHUNK.of(seen, ()) == pytest.approx(40)
    assert figure.CPU.of(window(0, "whole-500", DIRECT, cpu_s={}), ()) is None


def test_a_broker_s_last_word_counts(tmp_path: Path) -> None:
    conf = tmp_path / "standalone.conf"
    conf.write_text("# journalSyncData=never\njournalSyncData=true\nother= 1 \njournalSyncData=false\n")
    assert effective(conf) == {"journalSyncData": "false", "other": "1"}


def test_the_recorded_cost_of_the_remote_engine_is_no_more_than_is_aimed_at() -> None:
    recorded = msgspec.json.decode(remote_engine.OUTPUT.read_bytes(), type=remote_engine.Result)
    for name, most in remote_engine.AIMS.items():
        assert 0 < recorded.cpu[name].median <= most, name
    assert "whole_ms" in remote_engine.report(recorded).as_markdown()


@pytest.mark.parametrize(("arm", "package", "version_"), [("litellm", "", "1.109.1"), ("fastchat", "fschat", "0.2.36")])
def test_other_gateways_are_pinned_with_hashes_and_come_from_no_named_registry(
    arm: str, package: str, version_: str
) -> None:
    assert version(arm, package) == version_
    lock = (LOCKS / f"{arm}.txt").read_text(encoding="utf-8")
    packages = lock.split("\n\n")[0].replace("\\\n", " ").splitlines()
    pinned = [line for line in packages if not line.lstrip().startswith("#")]
    assert len(pinned) > 30
    assert all("==" in line and "--hash=sha256:" in line for line in pinned)
    assert "://" not in lock
