"""Whether something grows: the slope of the last three quarters of what was sampled."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = 0.25
"""The first quarter is not judged: caches fill, and Java's heap grows to what it may have."""


def growth(at: Sequence[float], values: Sequence[float]) -> float:
    """By how much a straight line through the last three quarters rises from their begin to their end.

    Raises :class:`ValueError` with fewer than three samples in them.
    """
    first = at[0] + (at[-1] - at[0]) * BEGIN
    later = [(moment, value) for moment, value in zip(at, values, strict=True) if moment >= first]
    if len(later) < 3:
        raise ValueError("three samples at least must be in the last three quarters")
    moments = [moment for moment, _ in later]
    line = statistics.linear_regression(moments, [value for _, value in later])
    return line.slope * (moments[-1] - moments[0])
