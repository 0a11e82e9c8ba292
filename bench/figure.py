"""The quantities that are read off a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.arm import DIRECT
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.result import Result
    from bench.window import Window

ALL = ()
"""In the place of some roles: every role of the arm."""


@dataclass(frozen=True)
class Figure:
    """A quantity, which is ``None`` in a window that does not tell it."""

    words: str
    unit: str
    of: Callable[[Window, tuple[str, ...]], float | None]
    added: bool = False
    """Less the same of the upstream alone, in the same round."""


def _cpu_s(window: Window, roles: tuple[str, ...]) -> float:
    return sum(spent for role, spent in window.cpu_s.items() if not roles or role in roles)


def _cpu_ms(window: Window, roles: tuple[str, ...]) -> float | None:
    asked = window.answers + window.hung_up
    return 1e3 * _cpu_s(window, roles) / asked if asked and window.cpu_s else None


def _cpu_us_per_chunk(window: Window, roles: tuple[str, ...]) -> float | None:
    return 1e6 * _cpu_s(window, roles) / window.chunks if window.chunks and window.cpu_s else None


CPU = Figure("CPU per request", "ms", _cpu_ms)
CPU_PER_CHUNK = Figure("CPU per chunk", "µs", _cpu_us_per_chunk)
RATE = Figure("answers per second", "1/s", lambda window, _: window.answers_per_s if window.answers else None)
FIRST_P50 = Figure("first token p50", "ms", lambda window, _: window.first_ms.p50 if window.first_ms else None)
TOTAL_P50 = Figure("p50", "ms", lambda window, _: window.total_ms.p50 if window.total_ms else None)
TOTAL_P99 = Figure("p99", "ms", lambda window, _: window.total_ms.p99 if window.total_ms else None)
DELAY_P50 = Figure(
    "chunk delay p50", "ms", lambda window, _: window.chunk_delay_ms.p50 if window.chunk_delay_ms else None
)
DELAY_P99 = Figure(
    "chunk delay p99", "ms", lambda window, _: window.chunk_delay_ms.p99 if window.chunk_delay_ms else None
)
ADDED_P50 = Figure("added p50", "ms", TOTAL_P50.of, added=True)
ADDED_FIRST = Figure("added first token p50", "ms", FIRST_P50.of, added=True)


def by_round(result: Result, figure: Figure, workload: str, arm: str, roles: tuple[str, ...] = ALL) -> dict[int, float]:
    """A figure in each round that tells it."""
    found = {}
    direct = result.counted(workload, DIRECT) if figure.added else {}
    for number, window in result.counted(workload, arm).items():
        value = figure.of(window, roles)
        if figure.added and value is not None:
            least = figure.of(direct[number], roles) if number in direct else None
            value = value - least if least is not None else None
        if value is not None:
            found[number] = value
    return found


def spread(result: Result, figure: Figure, workload: str, arm: str, roles: tuple[str, ...] = ALL) -> Spread | None:
    """Over the rounds; ``None`` if none tells it."""
    values = list(by_round(result, figure, workload, arm, roles).values())
    return Spread.of(values) if values else None
