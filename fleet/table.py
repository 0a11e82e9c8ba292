"""Rows as a table for people: columns as wide as what is in them, numbers to the right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.terminal import harmless, width_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CELL_CHARS_MAX = 60


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """One line for each row below one of names. ``columns`` are those of the first row, if none are given.

    What the last one has is not cut: it pushes nothing aside.
    """
    names = list(columns or rows[0])
    *others, last = names
    lines = [names, *([*(_cut(_cell(row.get(name))) for name in others), _cell(row.get(last))] for row in rows)]
    widths = [max(width_of(line[place]) for line in lines) for place in range(len(names))]
    right = [all(_is_number(row.get(name)) for row in rows) for name in names]
    return "\n".join(
        "  ".join(
            " " * (width - width_of(cell)) + cell if is_right else cell + " " * (width - width_of(cell))
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    text = "-" if value is None or value == "" else "yes" if value is True else "no" if value is False else str(value)
    return harmless(text)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, str)) and str(value).replace(".", "", 1).isdigit())
