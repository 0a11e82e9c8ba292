"""What a provider states of its rate limits in an answer's headers, in the many spellings that providers have."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from wire.number import INTEGER_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["requests", "tokens"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MINUTE_S = 60.0
_EPOCH_S_MIN, _EPOCH_MS_MIN = 1e9, 1e12
"""A bare number from here on is a Unix time, in seconds or in milliseconds, and no duration."""
_FAMILIES = frozenset(("ratelimit", "ratelimitbysize"))
_MEASURES = ("limit", "remaining", "reset")
_KINDS: dict[str, Kind] = {"requests": "requests", "req": "requests", "tokens": "tokens", "ratelimitbysize": "tokens"}
_PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 2_592_000.0}
_NAMES = _FAMILIES | set(_MEASURES) | set(_KINDS) | set(_PERIODS_S) | {"x", "anthropic"}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True)
class Stated:
    """What is said of one limit. ``period_s`` is None where its name does not tell; ``reset_s`` is a duration.

    A provider with fixed windows says by ``reset_s`` when the window ends, one with a bucket when it is full again.
    """

    kind: Kind
    period_s: float | None = None
    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None

    @property
    def per_min(self) -> float | None:
        """The limit if it is one per minute. Without a period in its name it is taken for one, as OpenAI's is, unless
        its reset tells that it is one per day, or is further away than a minute. One per second counts as sixty times
        as many per minute."""
        if self.limit is None or self.limit <= 0 or (self.reset_s or 0.0) > MINUTE_S * 1.1:
            return None
        if self.period_s is None and self._may_be_of_a_day:
            return None
        period_s = self.period_s or MINUTE_S
        # Who has no limit states the greatest number that it knows.
        return min(self.limit * MINUTE_S / period_s, float(INTEGER_MAX)) if period_s <= MINUTE_S else None

    @property
    def is_bucket(self) -> bool:
        """Whether the reset is when all is there again, at a limit per minute: a part of it is there much sooner."""
        if self.limit is None or self.remaining is None or not self.reset_s:
            return False
        used = self.limit - self.remaining
        return used > 0 and abs(self.reset_s * self.limit / used - MINUTE_S) < MINUTE_S * 0.1

    @property
    def _may_be_of_a_day(self) -> bool:
        """Whether the reset is when a day's even refilling, as Groq's, has given back what is used, which is counted in
        whole requests. The first request of a minute may look so too: then the second tells."""
        if self.limit is None or self.remaining is None or not self.reset_s or self.is_bucket:
            return False
        return abs(self.reset_s * self.limit / _PERIODS_S["day"] - (self.limit - self.remaining)) < 1


class _Name(NamedTuple):
    measure: str
    kind: Kind
    period_s: float | None
    vague: bool
    """Whether neither kind nor period is named: such a limit may be one per second or per day."""


def stated(headers: Mapping[str, str], now_s: float) -> list[Stated]:
    """Every limit that the headers speak of. ``now_s`` is Unix time. What cannot be read is left out."""
    found: dict[tuple[Kind, float | None], dict[str, float]] = {}
    for header, value in headers.items():
        name = _name(header)
        if name is None or (name.vague and name.measure == "limit"):
            continue
        number = seconds_until(value, now_s) if name.measure == "reset" else _leading_number(value)
        if number is not None:
            found.setdefault((name.kind, name.period_s), {})[name.measure] = number
    return [
        Stated(kind, period_s, said.get("limit"), said.get("remaining"), said.get("reset"))
        for (kind, period_s), said in found.items()
    ]


@functools.lru_cache(256)
def _name(header: str) -> _Name | None:
    words = header.lower().replace("rate-limit", "ratelimit").split("-")
    measures = [word for word in words if word in _MEASURES]
    if len(measures) != 1 or not _FAMILIES & set(words) or not _NAMES.issuperset(words):
        return None  # also tokens of some sort, whose sum a provider limits by other headers
    kind = next((_KINDS[word] for word in words if word in _KINDS), None)
    period_s = next((_PERIODS_S[word] for word in words if word in _PERIODS_S), None)
    return _Name(measures[0], kind or "requests", period_s, kind is None and period_s is None)


def seconds_until(value: str, now_s: float) -> float | None:
    """A duration (``1m30.5s``, ``12ms``), seconds, a Unix time, or a date and time, as seconds from ``now_s`` on."""
    value = value.strip()
    if (number := _number(value)) is not None:
        if number >= _EPOCH_MS_MIN:
            number /= 1000
        return max(0.0, number - now_s) if number >= _EPOCH_S_MIN else number
    parts = _DURATION.findall(value)
    if parts and "".join(amount + unit for amount, unit in parts) == value:
        return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
    try:
        return max(0.0, datetime.fromisoformat(value).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None


def _leading_number(value: str) -> float | None:
    read = _NUMBER.match(value)  # the draft standard's form goes on: "100, 100;w=60"
    return _number(read[1]) if read else None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
