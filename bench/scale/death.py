"""A node killed under load: whether anything is lost, and what its clients notice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from bench.fleet_processes import wait_for_model
from bench.generator import Load, Percentiles, Step, finished
from bench.scale.record import Row, none_lost, told

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses

NODES = 2
SLOTS = 64
STEP_MS = 250
PACE_MS = 10.0
"""Between two chunks, so that many answers are under way when the node dies."""


class Killed(msgspec.Struct, frozen=True):
    """Load at a fixed rate, and one of the nodes killed ``killed_at_s`` after it began."""

    stream: bool
    rate: float
    killed_at_s: float
    answers: int
    failed: int
    first_error: str
    total_ms: Percentiles
    timeline: list[Step]

    @property
    def bump(self) -> tuple[float, float]:
        """The greatest latency of an answer before the death and after it, in milliseconds."""
        before = [each for each in self.timeline if each.from_s < self.killed_at_s - STEP_MS / 1000]
        after = [each for each in self.timeline if each not in before]
        return _greatest(before), _greatest(after)

    @property
    def recovered_s(self) -> float:
        """How long after the death answers still came later than any before it."""
        usual = self.bump[0]
        late = [each.from_s for each in self.timeline if each.total_ms is not None and each.total_ms.max > 1.5 * usual]
        return max(0.0, max(late, default=0.0) + STEP_MS / 1000 - self.killed_at_s)


class Death(msgspec.Struct, frozen=True):
    """Once with whole answers and once with streams."""

    nodes: int
    runs: list[Killed]


def measure(fleet: FleetProcesses, *, rate: float, seconds: float) -> Death:
    """A fleet whose node is killed, twice."""
    fleet.upstream()
    fleet.broker()
    gateway = fleet.gateway()
    wait = [fleet.node("remote", MAX_PROCESS_NUM=str(SLOTS)) for _ in range(NODES)]
    wait_for_model(gateway)
    runs = []
    for stream in (False, True):
        warm = Load(url=gateway.url, clients=16, requests=200, stream=stream)
        warm.run()
        load = Load(
            url=gateway.url,
            rate=rate,
            seconds=seconds,
            stream=stream,
            pace_ms=PACE_MS,
            timeline_ms=STEP_MS,
        )
        began = time.perf_counter()
        generator = load.start()
        time.sleep(seconds / 2)
        wait.pop().kill()
        killed_at_s = time.perf_counter() - began
        sample = finished(generator, seconds + 120)
        assert sample.total_ms is not None
        runs.append(
            Killed(
                stream=stream,
                rate=rate,
                killed_at_s=round(killed_at_s, 2),
                answers=sample.answers,
                failed=sample.failed,
                first_error=sample.first_error,
                total_ms=sample.total_ms,
                timeline=sample.timeline,
            )
        )
        wait.append(fleet.node("remote", MAX_PROCESS_NUM=str(SLOTS)))
        time.sleep(1)
    return Death(NODES, runs)


def _greatest(steps: list[Step]) -> float:
    return max((each.total_ms.max for each in steps if each.total_ms is not None), default=0.0)


def rows(found: Death) -> list[Row]:
    """For people."""
    told_of: list[Row] = []
    for run in found.runs:
        what = f"one of {found.nodes} nodes killed, {run.rate:g} {'streams' if run.stream else 'whole answers'}/s"
        before, after = run.bump
        told_of += [
            none_lost(run.answers, run.failed, run.first_error, f"{what}: answers"),
            told("the latest answer before", before, "ms", 0),
            told("the latest answer after", after, f"ms; {run.recovered_s:.1f} s until none is late", 0),
        ]
    return told_of
