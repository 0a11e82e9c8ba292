"""The measurements as tables, for people and for docs/performance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.process import ROOT
from bench.scale.measurements import MEASUREMENTS
from bench.table import Table

if TYPE_CHECKING:
    from bench.scale.record import Record, Row

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"
_HEADS = ["figure", "measured", "aim", ""]
_MET = {True: "met", False: "missed", None: ""}


def table(title: str, rows: list[Row]) -> Table:
    """Figures beside their aims."""
    lines = [[row.what, row.measured, row.aim, _MET[row.met]] for row in rows]
    return Table(title, _HEADS, lines, words=len(_HEADS))


def conditions(record: Record[Any]) -> str:
    """When, how and on what."""
    where = record.machine
    return (
        f"`{record.command}`, {record.date}, commit {record.commit}, {record.wall_s / 60:.0f} minutes; "
        f"{where.cores} cores ({where.processor}), {where.memory_mib / 1024:.0f} GiB, Python {where.python}, "
        f"Pulsar {where.pulsar}; load average before and after: {record.load_average_before}, "
        f"{record.load_average_after}."
    )


def section() -> str:
    """All that is recorded, as Markdown."""
    parts: list[str] = []
    for name, measurement in MEASUREMENTS.items():
        record = measurement.recorded(name)
        title = measurement.words[0].upper() + measurement.words[1:]
        if record is None:
            parts.append(f"**{title}**\n\nNot recorded yet: `python -m bench.scale {name} --record`.")
            continue
        parts += [table(title, measurement.rows(record.found)).as_markdown(), conditions(record)]
        if name == "soak":
            parts.append("![Memory and open files over time](../bench/results/scale/soak.svg)")
    return "\n\n".join(parts)


def page_with(page: str) -> str:
    """A page with the section in the place that it keeps for it."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{section()}\n{END}{rest.split(END)[1]}"
