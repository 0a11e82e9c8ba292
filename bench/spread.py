"""Many measured values as few: percentiles of one run, and median, least and greatest of several runs."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spread(msgspec.Struct, frozen=True):
    """The same quantity, measured once in each round."""

    median: float
    least: float
    greatest: float
    rounds: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Rounded to four significant digits: no measurement here is finer. Raises :class:`ValueError` without any."""
        if not values:
            raise ValueError("a spread needs at least one value")
        rounds = [significant(value) for value in values]
        return cls(significant(statistics.median(values)), min(rounds), max(rounds), rounds)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that at least ``percent`` of all do not exceed (nearest rank).

    Raises :class:`ValueError` without any value.
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def significant(value: float, digits: int = 4) -> float:
    """The value with that many significant digits."""
    return float(f"{value:.{digits}g}")
