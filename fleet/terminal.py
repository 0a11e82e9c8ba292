"""What others wrote, and when, as an operator's terminal may show it."""

from __future__ import annotations

from datetime import UTC, datetime
from unicodedata import category, east_asian_width

TIME_MS_MAX = 253_402_300_799_000
"""The end of the year 9999, the last that can be shown."""


def harmless(text: object, *, lines: bool = False) -> str:
    """What a client, a provider or a node wrote must not move the cursor, nor pass for another line.

    With ``lines`` it may have several.
    """
    return "".join(each if each.isprintable() or (lines and each == "\n") else "?" for each in str(text))


def width_of(text: str) -> int:
    """The columns that it takes: a Chinese character has two, a mark above a letter none."""
    return sum(0 if category(each) in ("Mn", "Me") else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def fitting(text: str, width: int) -> str:
    """Its beginning that takes no more columns."""
    text = text[:width]
    while width_of(text) > width:
        text = text[:-1]
    return text


def time_of(ms: int) -> str:
    """A moment, in UTC. Of one that is forged it is the last that can be shown."""
    return datetime.fromtimestamp(min(ms, TIME_MS_MAX) / 1000, UTC).isoformat(timespec="seconds")
