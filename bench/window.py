"""One window: one arm under one workload for some seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from bench.generator import Load, LoadFailed, Percentiles, Sample, finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.arm import Arm
    from bench.process import Process
    from bench.workload import Workload

QUIET_WAIT_S = 3.0
LOAD_WAIT_S = 180.0
"""How much longer than asked a generator may take: an arm that is overrun needs long for its last answers."""
_LOOK_S = 0.2
_QUIET_CPU_S = 0.03


class Window(msgspec.Struct, frozen=True):
    """What was seen. Nothing in it is computed but percentiles."""

    round: int
    workload: str
    arm: str
    void: str
    """Why it counts for nothing: the first error in it. Empty if every answer was complete."""
    rate: float
    """Requests per second that were asked for; 0 where clients asked one after the other."""
    answers: int
    failed: int
    hung_up: int
    chunks: int
    seconds: float
    answers_per_s: float
    first_ms: Percentiles | None
    total_ms: Percentiles | None
    chunk_delay_ms: Percentiles | None
    cpu_s: dict[str, float]
    """Processor seconds of the arm's roles, until they had done what the load left them to do."""
    generator_cpu_s: float


def observe(arm: Arm, workload: Workload, *, rate: float, seconds: float, round_: int) -> Window:
    """Load an arm, and wait until its processes have done what the load left them to do."""
    until_quiet(arm.processes)
    before = {process.name: process.cpu_s for process in arm.processes}
    error, beside = "", None
    try:
        other = Load(url=arm.url, seconds=seconds, **workload.beside).start() if workload.beside else None
        main = Load(url=arm.url, rate=rate, seconds=seconds, **workload.load).start()
        sample = finished(main, seconds + LOAD_WAIT_S)
        beside = finished(other, seconds + LOAD_WAIT_S) if other is not None else None
    except LoadFailed as failure:
        sample, error = _NOTHING, str(failure)
    until_quiet(arm.processes)
    cpu_s = {process.name: round(process.cpu_s - before[process.name], 2) for process in arm.processes}
    return Window(
        round=round_,
        workload=workload.name,
        arm=arm.name,
        void=error or why_void(sample, beside),
        rate=rate,
        answers=sample.answers,
        failed=sample.failed + (beside.failed if beside is not None else 0),
        hung_up=sample.hung_up,
        chunks=sample.chunks,
        seconds=sample.seconds,
        answers_per_s=sample.answers_per_s,
        first_ms=sample.first_ms,
        total_ms=sample.total_ms,
        chunk_delay_ms=sample.chunk_delay_ms,
        cpu_s=cpu_s,
        generator_cpu_s=round(sample.cpu_s, 3),
    )


def why_void(sample: Sample, beside: Sample | None = None) -> str:
    """A window counts only if every answer in it was complete, and there was one."""
    for each in (sample, beside):
        if each is not None and each.failed:
            return each.first_error or "an answer failed"
    return "" if sample.answers + sample.hung_up else "nobody was answered"


def until_quiet(processes: Sequence[Process]) -> None:
    """Return when they have next to nothing to do, or after :data:`QUIET_WAIT_S`."""
    deadline = time.perf_counter() + QUIET_WAIT_S
    spent = cpu_s(processes)
    while processes and time.perf_counter() < deadline:
        time.sleep(_LOOK_S)
        before, spent = spent, cpu_s(processes)
        if spent - before <= _QUIET_CPU_S:
            return


def cpu_s(processes: Sequence[Process]) -> float:
    """Processor seconds of all of them so far."""
    return sum(process.cpu_s for process in processes)


_NOTHING = Sample(
    answers=0,
    failed=0,
    first_error="",
    hung_up=0,
    seconds=0,
    answers_per_s=0,
    chunks=0,
    cpu_s=0,
    first_ms=None,
    total_ms=None,
    chunk_delay_ms=None,
)
