"""Ratios, tables and pictures of a comparison: what is missed or missing is shown, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from bench import figure
from bench.arm import DIRECT, ECHO, FASTCHAT, LITELLM, PULSAR
from bench.plots import draw
from bench.ratio import FLEET, TARGETS, Target, ratio
from bench.report import conditions, cpu, processes, ratio_text, report, summary, targets
from bench.result import Result, as_json
from bench.workload import WORKLOADS
from tests.bench_windows import measured, percentiles, result, window

if TYPE_CHECKING:
    from pathlib import Path

    from bench.window import Window

WHOLE = Target("CPU", figure.CPU, "whole-500", LITELLM, 1 / 12, 1 / 15, FLEET)


def whole(round_: int, arm: str, ms: float) -> Window:
    """A window whose counted roles take so many milliseconds per answer, and management one more."""
    roles = {"gateway": ms, "management": 1.0} if arm == PULSAR else {arm: ms}
    return window(round_, "whole-500", arm, cpu_s=roles, answers=1000, rate=500.0)


def test_a_ratio_is_taken_within_each_round_and_its_median_counts() -> None:
    ours = [whole(number, PULSAR, ms) for number, ms in enumerate((1.0, 1.0, 2.0))]
    theirs = [whole(number, LITELLM, ms) for number, ms in enumerate((10.0, 14.0, 16.0))]
    found = ratio(result(*ours, *theirs), WHOLE)
    assert found is not None
    assert found.ratio.rounds == [0.1, 0.07143, 0.125]
    assert ratio_text(found) == "1/10 (1/14…1/8)"
    assert (found.ours.median, found.theirs.median) == (1.0, 14.0)


@pytest.mark.parametrize(
    ("theirs", "verdict"), [(11.9, "missed"), (12.0, "met"), (14.9, "met"), (15.0, "aim met"), (40.0, "aim met")]
)
def test_a_target_is_met_or_missed_and_so_is_what_is_aimed_at(theirs: float, verdict: str) -> None:
    found = ratio(result(whole(0, PULSAR, 1.0), whole(0, LITELLM, theirs)), WHOLE)
    assert found is not None
    assert found.verdict == verdict
    assert targets(result(whole(0, PULSAR, 1.0), whole(0, LITELLM, theirs))).rows[0][-1] == verdict


def test_an_aim_without_a_target_is_missed_alone() -> None:
    target = Target("CPU", figure.CPU, "whole-500", LITELLM, None, 4, FLEET)
    found = ratio(result(whole(0, PULSAR, 5.0), whole(0, LITELLM, 1.0)), target)
    assert found is not None
    assert (found.verdict, ratio_text(found)) == ("aim missed", "5")


def test_a_void_window_counts_for_nothing_and_is_told() -> None:
    void = window(0, "whole-500", LITELLM, void="status 500: no", failed=3, cpu_s={"litellm": 99.0})
    seen = result(whole(0, PULSAR, 1.0), void, whole(0, LITELLM, 10.0))
    found = ratio(seen, WHOLE)
    assert found is not None
    assert found.theirs.median == 10.0
    assert "* Void: round 1, litellm, whole answers, 500 a second: 3 failed, `status 500: no`" in report(
        seen, markdown=True
    )
    only = result(whole(0, PULSAR, 1.0), void)
    assert ratio(only, WHOLE) is None
    assert only.unmeasured == [("whole-500", LITELLM)]


def test_what_is_added_is_reckoned_against_the_upstream_in_the_same_round() -> None:
    times = {DIRECT: (0.1, 0.5), PULSAR: (2.1, 3.5), LITELLM: (12.1, 12.5)}
    windows = [
        window(number, "whole-1", arm, total_ms=percentiles(ms))
        for arm, pair in times.items()
        for number, ms in enumerate(pair)
    ]
    added = next(target for target in TARGETS if target.figure is figure.ADDED_P50)
    found = ratio(result(*windows), added)
    assert found is not None
    assert (found.ours.rounds, found.theirs.rounds) == ([2.0, 3.0], [12.0, 12.0])
    without = result(*(each for each in windows if each.arm != DIRECT or each.round))
    assert figure.by_round(without, figure.ADDED_P50, "whole-1", PULSAR) == {1: pytest.approx(3.0)}


def test_a_rate_that_we_did_not_bear_is_told_beside_the_target() -> None:
    slow = window(0, "whole-500", PULSAR, cpu_s={"gateway": 1.0}, rate=412.0)
    words = {row[0] for row in targets(result(slow, whole(0, LITELLM, 10.0))).rows}
    assert f"{TARGETS[0].words}, at 412 a second" in words
    assert targets(result(whole(0, PULSAR, 1.0), whole(0, LITELLM, 10.0))).rows[0][0] == TARGETS[0].words


def test_every_target_names_what_there_is() -> None:
    known = {LITELLM, FASTCHAT, ECHO}
    for target in TARGETS:
        assert target.workload in WORKLOADS
        assert target.against in known
        assert target.at_most or target.aim


def test_processor_time_is_told_by_role_with_the_rate_that_was_asked() -> None:
    seen = result(window(0, "whole-500", PULSAR, rate=500.0, cpu_s={"gateway": 0.25, "broker": 0.5}))
    rows = {tuple(row[:2]): row[2:] for row in cpu(seen).rows}
    assert rows[PULSAR, "gateway"] == ["0.50", "0.25", "", "", "500", ""]
    assert rows[PULSAR, "all"] == ["", "0.75", "", "", "500", ""]


def test_a_report_tells_what_was_left_out_and_on_what_it_was_measured() -> None:
    noted = measured(PULSAR, "gateway", notes={"journalSyncData": "true"})
    arms = [measured(DIRECT), noted, measured(ECHO, "echo", cannot={"slow-8": "its answer is fixed"})]
    seen = result(whole(0, PULSAR, 1.0), arms=arms, left_out={FASTCHAT: "there is no network"})
    text = report(seen, markdown=False)
    assert "* fastchat was left out: there is no network" in text
    assert f"* echo is not asked for {WORKLOADS['slow-8'].words}: its answer is fixed." in text

    assert "journalSyncData = true" in conditions(seen)
    assert "2 cores (a processor)" in conditions(seen)


def test_the_summary_has_the_targets_and_our_own_processes_alone() -> None:
    seen = result(whole(0, PULSAR, 1.0), whole(0, LITELLM, 10.0))
    text = summary(seen)
    first = TARGETS[0].words
    assert f"| {first} | litellm | 1.00 | 10.0 | 1/10 | 1/12 | 1/15 | missed |" in text

    assert "| pulsar | gateway | 1.50 | 80.0 | 90.0 |" in text
    assert "| litellm | litellm |" not in text
    assert len(processes(seen).rows) == 5


def test_the_pictures_show_every_arm_and_are_the_same_for_the_same_data(tmp_path: Path) -> None:
    seen = result(
        *(whole(0, arm, ms) for arm, ms in ((PULSAR, 1.25), (LITELLM, 12.5))),
        *(window(0, "whole-1", arm) for arm in (DIRECT, PULSAR, LITELLM)),
        window(0, "paced-128", PULSAR, chunk_delay_ms=percentiles(3.0), cpu_s={"gateway": 1.0}),
    )
    drawn = {path.name: path.read_text() for path in draw(seen, tmp_path)}
    assert {"comparison-cpu.svg", "comparison-latency.svg"} == set(drawn)
    for arm in (PULSAR, LITELLM):
        assert all(f">{arm}<" in text for text in drawn.values())
    assert "2.25" in drawn["comparison-cpu.svg"]
    assert {path.name: path.read_text() for path in draw(seen, tmp_path)} == drawn


def test_a_result_reads_as_it_was_written() -> None:
    seen = result(whole(0, PULSAR, 1.0), window(0, "whole-1", LITELLM, void="x"))
    assert msgspec.json.decode(as_json(seen), type=Result) == seen
    assert msgspec.json.decode(as_json(result()), type=Result) == result()


@pytest.mark.parametrize(("load", "is_said"), [(0.9, False), (1.0, True)])
def test_the_summary_says_when_the_machine_was_busy(load: float, is_said: bool) -> None:
    seen = result(whole(0, PULSAR, 1.0), whole(0, LITELLM, 10.0))
    run = msgspec.structs.replace(seen.run, load_average_before=load)
    assert ("Not for comparison" in summary(msgspec.structs.replace(seen, run=run))) == is_said
