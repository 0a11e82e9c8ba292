"""How numbers, times and amounts are written for people. Pure."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from store import amount

if TYPE_CHECKING:
    from collections.abc import Callable

NONE = "\N{EN DASH}"
COMPACT_FROM = 100_000
LAST_MS = 253_402_128_000_000
"""The 30th of December 9999: Python knows no later day in every zone, and nodes may tell of any time."""
_STEPS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
_MICRO_SMALL = amount.NANOS // 100_000
"""Of a smaller amount six digits show one that counts, or none."""
_NEAR_MS = 180 * 86_400_000
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(value: int | None) -> str:
    """``1,234,567``."""
    return NONE if value is None else f"{value:,}"


def compact(value: int | None) -> str:
    """``99,999``, and from there on ``1.23M``: three digits that count."""
    if value is None:
        return NONE
    if abs(value) < COMPACT_FROM:
        return f"{value:,}"
    for step, unit in _STEPS:
        # What would be rounded up to the next unit belongs to it.
        if abs(value) >= step * 0.9995:
            shown = f"{value / step:.3g}"
            return f"{float(shown):g}{unit}"
    return f"{value:,}"


def duration(ms: int | None) -> str:
    """``340 ms``, ``1.24 s``, ``2 min 03 s``, ``5 h 10 min``."""
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.{2 if ms < 10_000 else 1}f}".rstrip("0").rstrip(".") + " s"
    seconds = ms // 1000
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600} h"


def ago(ms: int, now_ms: int) -> str:
    """``12 s ago``, in the largest unit that fits."""
    seconds = max(0, now_ms - ms) // 1000
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def size(count: int | None) -> str:
    """``1.2 KiB``."""
    if count is None:
        return NONE
    for step, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def money(value: str | int | None) -> str:
    """An amount, as a decimal or in nanos: two digits behind the point, or as many as a small one needs to be seen."""
    if value is None:
        return NONE
    decimal = Decimal(exact(value))
    if decimal == 0 or abs(decimal) >= Decimal("0.1"):
        return f"{decimal:,.2f}"
    return f"{decimal:.{1 - decimal.adjusted()}f}"


def exact(value: str | int) -> str:
    """The whole decimal of an amount."""
    return amount.shown(value) if isinstance(value, int) else value


def micro(value: int) -> str:
    """Six digits behind the point, as single requests have them: one below the other they can be compared. Of a very
    small amount as many as it needs to be seen."""
    return money(value) if 0 < abs(value) < _MICRO_SMALL else f"{Decimal(exact(value)):,.6f}"


def percent(part: int, whole: int) -> int:
    """Whole percents, from 0 to 100."""
    return 0 if whole <= 0 else min(100, max(0, round(100 * part / whole)))


def pretty(text: str) -> str:
    """JSON with a line for each field; what is none, as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def filters(zone: datetime.tzinfo) -> dict[str, Callable[..., Any]]:
    """What templates call them. Times are Unix milliseconds, and are shown in ``zone``."""

    def moment(ms: int) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(min(ms, LAST_MS) / 1000, zone)

    def clock(ms: int) -> str:
        return f"{moment(ms):%H:%M:%S}.{ms % 1000:03}"

    def when(ms: int, now_ms: int) -> str:
        time, now = moment(ms), moment(now_ms)
        if time.date() == now.date():
            return f"{time:%H:%M:%S}"
        # No two days that are so near have one name: on New Year's morning the night before has its hours.
        return f"{time.day} {time:%b %H:%M}" if abs(ms - now_ms) < _NEAR_MS else f"{time.day} {time:%b %Y}"

    def iso(ms: int) -> str:
        return moment(ms).isoformat(timespec="milliseconds")

    def full(ms: int) -> str:
        time = moment(ms)
        return f"{time:%Y-%m-%d %H:%M:%S}.{ms % 1000:03} {time:%Z}"

    return {
        "number": number,
        "compact": compact,
        "duration": duration,
        "ago": ago,
        "size": size,
        "money": money,
        "exact": exact,
        "micro": micro,
        "percent": percent,
        "pretty": pretty,
        "clock": clock,
        "when": when,
        "iso": iso,
        "full": full,
    }
