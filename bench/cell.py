"""One cell of the table: one kind of load on one setup, observed once in each round."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvloop

from bench.load import Ask, Sample, load
from bench.spread import percentile

if TYPE_CHECKING:
    from bench.fleet_processes import Process

LOAD = "load client"
"""The name of this process among those whose processor time is told."""
QUIET_WAIT_S = 3.0
_LOOK_S = 0.2
_QUIET_CPU_S = 0.03


@dataclass(frozen=True)
class Cell:
    """One kind of load."""

    kind: str
    clients: int
    stream: bool
    paced: bool = False


@dataclass(frozen=True)
class Setup:
    """One way to the upstream. ``processes`` are those that work for it."""

    name: str
    url: str
    processes: list[Process]


@dataclass(frozen=True)
class Observation:
    """What one round saw in a cell."""

    answers: int
    failed: int
    figures: dict[str, float] = field(default_factory=dict)
    """Rate and latencies; empty if no answer came."""
    cpu_ms: dict[str, float] = field(default_factory=dict)
    """Processor time per answer of each process."""


LATENCY_CELLS = (Cell("whole", 1, stream=False), Cell("stream, paced", 1, stream=True, paced=True))
RATE_CELLS = tuple(Cell(kind, clients, stream=kind == "stream") for kind in ("whole", "stream") for clients in (16, 64))


def observe(cell: Cell, setup: Setup, seconds: float) -> Observation:
    """Load a setup, and wait until its processes have done what the load left them to do."""
    until_quiet(setup.processes)
    before = {process.name: process.cpu_s for process in setup.processes}
    own = time.process_time()
    ask = Ask(setup.url, cell.stream, cell.paced)
    sample = uvloop.run(load(ask, clients=cell.clients, seconds=seconds))
    own = time.process_time() - own
    until_quiet(setup.processes)
    if not sample.answers:
        return Observation(0, sample.failed)
    cpu_s = {process.name: process.cpu_s - before[process.name] for process in setup.processes}
    cpu_ms = {name: spent * 1000 / sample.answers for name, spent in {**cpu_s, LOAD: own}.items()}
    return Observation(sample.answers, sample.failed, _figures(sample), cpu_ms)


def until_quiet(processes: list[Process]) -> None:
    """Return when they have next to nothing to do, or after :data:`QUIET_WAIT_S`."""
    deadline = time.perf_counter() + QUIET_WAIT_S
    spent = _cpu_s(processes)
    while time.perf_counter() < deadline:
        time.sleep(_LOOK_S)
        before, spent = spent, _cpu_s(processes)
        if spent - before <= _QUIET_CPU_S:
            return


def _cpu_s(processes: list[Process]) -> float:
    return sum(process.cpu_s for process in processes)


def _figures(sample: Sample) -> dict[str, float]:
    return {
        "answers_per_s": sample.per_second,
        "first_p50_ms": percentile(sample.first_s, 50) * 1000,
        "first_p99_ms": percentile(sample.first_s, 99) * 1000,
        "total_p50_ms": percentile(sample.total_s, 50) * 1000,
        "total_p99_ms": percentile(sample.total_s, 99) * 1000,
    }
