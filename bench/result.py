"""What a run of :mod:`bench.main_job` leaves behind: plain data, and nothing that was not measured in that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.machine import Machine
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.cell import Cell, Observation

DIRECT = "direct"


class Run(msgspec.Struct, frozen=True):
    """When and how it was measured."""

    date: str
    commit: str
    command: str
    seconds: float
    rounds: int
    pace_ms: float
    load_average_before: float
    load_average_after: float
    wall_s: float


class Measured(msgspec.Struct, frozen=True):
    """One kind of load on one setup."""

    setup: str
    kind: str
    clients: int
    answers: int
    failed: int
    figures: dict[str, Spread]
    over_direct: dict[str, Spread]
    """The latencies, each less that of the upstream called directly in the same round."""
    cpu_ms_per_answer: dict[str, Spread]


class Result(msgspec.Struct, frozen=True):
    """The whole of it."""

    run: Run
    machine: Machine
    start_s: dict[str, Spread]
    idle_resident_mib: dict[str, Spread]
    resident_after_load_mib: dict[str, float]
    cells: list[Measured]

    @property
    def failed(self) -> int:
        """Answers that were not complete."""
        return sum(cell.failed for cell in self.cells)


def measured(setup: str, cell: Cell, seen: Sequence[Observation], direct: Sequence[Observation]) -> Measured:
    """Put the rounds of one cell together. ``direct`` are the same rounds without anything in between."""
    over = [
        {name: one.figures[name] - other.figures[name] for name in one.figures if name.endswith("_ms")}
        for one, other in zip(seen, direct, strict=True)
        if one.figures and other.figures and setup != DIRECT
    ]
    return Measured(
        setup,
        cell.kind,
        cell.clients,
        sum(each.answers for each in seen),
        sum(each.failed for each in seen),
        spreads([each.figures for each in seen]),
        spreads(over),
        spreads([each.cpu_ms for each in seen]),
    )


def spreads(rounds: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """One spread for each name, in the order in which they came."""
    names = dict.fromkeys(name for each in rounds for name in each)
    return {name: Spread.of([each[name] for each in rounds if name in each]) for name in names}
