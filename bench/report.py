"""A result as tables, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.result import DIRECT

if TYPE_CHECKING:
    from bench.result import Measured, Result
    from bench.spread import Spread

_GAP = "  "
OURS = ("gateway", "node, remote", "management", "broker", "fleet up")
"""The processes of a fleet, without load client and upstream."""


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


def report(result: Result, *, markdown: bool) -> str:
    """The whole result."""
    tables = [_processes(result), _latency(result), _rates(result), _cpu(result)]
    return "\n\n".join([_conditions(result), *(each.as_markdown() if markdown else each.as_text() for each in tables)])


def summary(result: Result) -> str:
    """What most people want to know, as Markdown: the processes, and one line per way through the fleet."""
    rows = []
    for setup in dict.fromkeys(cell.setup for cell in result.cells if cell.setup != DIRECT):
        cells = {(cell.kind, cell.clients): cell for cell in result.cells if cell.setup == setup}
        one = cells["whole", 1].over_direct
        most = max(clients for kind, clients in cells if kind == "whole")
        whole, stream = cells["whole", most], cells["stream", most]
        rows.append(
            [
                setup,
                _number(one["total_p50_ms"].median),
                _number(one["total_p99_ms"].median),
                _number(whole.figures["answers_per_s"].median),
                _number(stream.figures["answers_per_s"].median),
                _number(sum(spread.median for name, spread in whole.cpu_ms_per_answer.items() if name in OURS)),
                _number(sum(spread.median for name, spread in stream.cpu_ms_per_answer.items() if name in OURS)),
            ]
        )
    heads = ["way", "added p50 ms", "added p99 ms", "answers/s", "streams/s", "CPU ms/answer", "CPU ms/stream"]
    title = "Added to a direct call (one client); rates and CPU of all our processes and the broker (64 clients)"
    return "\n\n".join([_processes(result).as_markdown(), Table(title, heads, rows).as_markdown()])


def _conditions(result: Result) -> str:
    machine, run = result.machine, result.run
    return (
        f"{machine.cores} cores ({machine.processor}), {machine.memory_mib / 1024:.0f} GiB, {machine.system}, "
        f"Python {machine.python}, Java {machine.java}, Pulsar {machine.pulsar}. "
        f"{run.date}, commit {run.commit}, `{run.command}`. "
        f"Load average before and after: {run.load_average_before}, {run.load_average_after}. "
        f"Medians of {run.rounds} rounds of {run.seconds:g} s, least and greatest in brackets; load client, upstream "
        f"and all processes share the cores. Answers of 50 tokens; a paced stream has {run.pace_ms:g} ms between its "
        f"chunks, the others come at once. Answers that were not complete: {result.failed}."
    )


def _processes(result: Result) -> Table:
    rows = [
        [
            name,
            _spread(result.start_s.get(name)),
            _spread(result.idle_resident_mib.get(name)),
            _number(result.resident_after_load_mib.get(name)),
        ]
        for name in result.idle_resident_mib
    ]
    return Table("Processes", ["process", "ready after s", "idle MiB", "MiB after the load"], rows)


def _latency(result: Result) -> Table:
    rows = []
    for cell in result.cells:
        if cell.clients > 1:
            continue
        for what in ("first", "total") if cell.kind.startswith("stream") else ("total",):
            shown = cell.figures if cell.setup == DIRECT else cell.over_direct
            name = f"{cell.kind}: {what}" if what == "first" else cell.kind
            setup = cell.setup if cell.setup == DIRECT else f"{cell.setup}, added"
            rows.append([name, setup, *(_spread(shown.get(f"{what}_{p}_ms")) for p in ("p50", "p99"))])
    return Table("Latency in ms, one client", ["answer", "way", "p50", "p99"], rows, words=2)


def _rates(result: Result) -> Table:
    names = ["answers_per_s", "total_p50_ms", "total_p99_ms"]
    rows = [
        [*_name(cell), *(_spread(cell.figures.get(name)) for name in names)]
        for cell in result.cells
        if cell.clients > 1
    ]
    return Table("Many clients", ["answer", "way", "clients", "answers/s", "p50 ms", "p99 ms"], rows, words=2)


def _cpu(result: Result) -> Table:
    cells = [cell for cell in result.cells if cell.clients > 1]
    processes = list(dict.fromkeys(name for cell in reversed(cells) for name in cell.cpu_ms_per_answer))
    rows = [[*_name(cell), *(_spread(cell.cpu_ms_per_answer.get(each)) for each in processes)] for cell in cells]
    return Table("Processor ms per answer", ["answer", "way", "clients", *processes], rows, words=2)


def _name(cell: Measured) -> list[str]:
    return [cell.kind, cell.setup, str(cell.clients)]


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if len(spread.rounds) == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.least)}…{_number(spread.greatest)})"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
