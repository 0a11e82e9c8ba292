"""A table for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.spread import Spread

_GAP = "  "


@dataclass(frozen=True)
class Table:
    """A title, the heads of the columns, and the rows. The first ``words`` columns are no numbers."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    words: int = 1

    def as_markdown(self) -> str:
        lines = [self.heads, ["---"] * self.words + ["---:"] * (len(self.heads) - self.words), *self.rows]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])

    def as_text(self) -> str:
        lines = [self.heads, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = (_GAP.join(map(self._aligned, range(len(line)), line, widths)).rstrip() for line in lines)
        return "\n".join([self.title, *aligned])

    def _aligned(self, column: int, text: str, width: int) -> str:
        return text.ljust(width) if column < self.words else text.rjust(width)


def spread_text(spread: Spread | None) -> str:
    """The median, with the least and the greatest of several rounds in brackets; nothing of nothing."""
    if spread is None:
        return ""
    if len(spread.rounds) == 1:
        return number_text(spread.median)
    return f"{number_text(spread.median)} ({number_text(spread.least)}…{number_text(spread.greatest)})"


def number_text(value: float | None) -> str:
    """With three digits or so."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
