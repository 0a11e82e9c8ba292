"""A comparison as tables, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import figure
from bench.arm import OURS, PULSAR
from bench.machine import BUSY
from bench.ratio import TARGETS, Ratio, ratio
from bench.table import Table, number_text, spread_text
from bench.workload import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figure import Figure
    from bench.result import Result

_ERROR_CHARS = 120
Column = tuple[str, "Figure", str]
"""A head, a figure and the name of a workload."""

LATENCY: Sequence[Column] = (
    ("whole p50", figure.TOTAL_P50, "whole-1"),
    ("whole p99", figure.TOTAL_P99, "whole-1"),
    ("added p50", figure.ADDED_P50, "whole-1"),
    ("first token p50", figure.FIRST_P50, "stream-1"),
    ("added first token p50", figure.ADDED_FIRST, "stream-1"),
    ("whole p50 beside slow readers", figure.TOTAL_P50, "slow-8"),
    ("whole p99 beside slow readers", figure.TOTAL_P99, "slow-8"),
)
MANY: Sequence[Column] = (
    ("whole/s, 16", figure.RATE, "whole-16"),
    ("whole/s, 64", figure.RATE, "whole-64"),
    ("whole p99, 64", figure.TOTAL_P99, "whole-64"),
    ("streams/s, 16", figure.RATE, "stream-16"),
    ("streams/s, 64", figure.RATE, "stream-64"),
    ("first token p50, 64", figure.FIRST_P50, "stream-64"),
    ("long prompts/s, 16", figure.RATE, "mixed-16"),
)
CHUNKS: Sequence[Column] = (
    ("chunk delay p50 ms", figure.DELAY_P50, "paced-128"),
    ("chunk delay p99 ms", figure.DELAY_P99, "paced-128"),
    ("first token p50 ms", figure.FIRST_P50, "paced-128"),
    ("whole stream p50 ms", figure.TOTAL_P50, "paced-128"),
)


def report(result: Result, *, markdown: bool) -> str:
    """The whole result."""
    tables = [
        targets(result),
        cpu(result),
        _grid(result, "Latency in ms, one at a time", LATENCY),
        _grid(result, "Many clients", MANY),
        _grid(result, "128 streams, 20 ms between chunks", CHUNKS),
        processes(result),
    ]
    shown = [each.as_markdown() if markdown else each.as_text() for each in tables if each.rows]
    return "\n\n".join([conditions(result), *shown, *_omissions(result)])


def summary(result: Result) -> str:
    """What most people want to know, as Markdown: the ratios with their targets, and our processes."""
    tables = [targets(result).as_markdown(), processes(result, OURS).as_markdown()]
    load = result.run.load_average_before
    if load >= BUSY * result.machine.cores:
        busy = f"**Not for comparison yet**: the machine was busy with other work (load average {load} when it began)."
        tables.insert(0, busy)
    return "\n\n".join(tables)


def conditions(result: Result) -> str:
    """On what, when and how it was measured."""
    machine, run = result.machine, result.run
    versions = "; ".join(f"{arm.name}: {arm.version}" for arm in result.arms.values())
    notes = [f"{name} = {value}" for arm in result.arms.values() for name, value in arm.notes.items()]
    return (
        f"{machine.cores} cores ({machine.processor}), {machine.memory_mib / 1024:.0f} GiB, {machine.system}, "
        f"Python {machine.python}, Java {machine.java}, Pulsar {machine.pulsar}. "
        f"{run.date}, commit {run.commit}, `{run.command}`, {run.wall_s / 60:.0f} minutes. "
        f"Load average before and after: {run.load_average_before}, {run.load_average_after}. "
        f"Medians of {run.rounds} rounds of {run.seconds:g} s, least and greatest in brackets; load generator, "
        f"upstream and all arms share the cores. {versions}.{' ' if notes else ''}"
        f"{', '.join(notes)}{'.' if notes else ''}"
    )


def targets(result: Result) -> Table:
    """What is aimed at beside what was measured, missed or not."""
    found = [(target, ratio(result, target)) for target in TARGETS]
    rows = [
        [
            target.words + _slower(result, target.workload),
            target.against,
            spread_text(each.ours),
            spread_text(each.theirs),
            ratio_text(each),
            _bound(target.at_most),
            _bound(target.aim),
            each.verdict,
        ]
        for target, each in found
        if each is not None
    ]
    heads = ["on Pulsar", "against", "ours", "theirs", "measured", "target", "aim", "verdict"]
    return Table("Ratios and their targets", heads, rows, words=2)


def _slower(result: Result, workload: str) -> str:
    """That our rate was less than the workload's, where it was."""
    rates = [window.rate for window in result.counted(workload, PULSAR).values()]
    slow = bool(rates) and min(rates) < WORKLOADS[workload].rate
    return f", at {number_text(min(rates))} a second" if slow else ""


def ratio_text(each: Ratio) -> str:
    """The median, then the best and the worst round."""
    spread = each.ratio
    if len(spread.rounds) == 1:
        return _bound(spread.median)
    return f"{_bound(spread.median)} ({_bound(spread.least)}…{_bound(spread.greatest)})"


def _bound(value: float | None) -> str:
    """A ratio below 1 as 1/x, as the targets are."""
    if value is None:
        return ""
    return f"1/{1 / value:.3g}" if 0 < value < 1 else f"{value:.3g}"


def cpu(result: Result) -> Table:
    """Processor time by role, and the rate at which it was taken."""
    rows = []
    for arm in result.arms.values():
        roles: list[tuple[str, ...]] = [(role,) for role in arm.idle_mib]
        for chosen in roles if len(roles) < 2 else [*roles, figure.ALL]:
            row = [arm.name, *(chosen or ("all",))]
            idle = arm.idle_cpu_percent
            row.append(spread_text(idle.get(chosen[0])) if chosen else "")
            for name, what in (
                ("whole-500", figure.CPU),
                ("stream-500", figure.CPU),
                ("paced-128", figure.CPU_PER_CHUNK),
            ):
                row.append(spread_text(figure.spread(result, what, name, arm.name, chosen)))
            rows.append([*row, *(_rate(result, name, arm.name) for name in ("whole-500", "stream-500"))])
    heads = ["arm", "role", "idle, % of a core", "ms per whole answer", "ms per stream", "µs per chunk, 128 paced"]
    return Table("Processor time", [*heads, "whole/s asked", "streams/s asked"], rows, words=2)


def _rate(result: Result, workload: str, arm: str) -> str:
    rates = {window.rate for window in result.counted(workload, arm).values()}
    return "…".join(number_text(rate) for rate in sorted({min(rates), max(rates)})) if rates else ""


def _grid(result: Result, title: str, columns: Sequence[Column]) -> Table:
    """A row for each arm; empty columns and rows are left out."""
    cells = {
        arm: [spread_text(figure.spread(result, what, workload, arm)) for _, what, workload in columns]
        for arm in result.arms
    }
    shown = [place for place in range(len(columns)) if any(row[place] for row in cells.values())]
    rows = [[arm, *(row[place] for place in shown)] for arm, row in cells.items() if any(row)]
    return Table(title, ["arm", *(columns[place][0] for place in shown)], rows if shown else [])


def processes(result: Result, arms: Sequence[str] = ()) -> Table:
    """How long each takes to start, and its memory; of all arms by default."""
    rows = [
        [
            arm.name,
            role,
            spread_text(arm.start_s.get(role)),
            spread_text(arm.idle_mib.get(role)),
            number_text(arm.loaded_mib.get(role)),
        ]
        for arm in result.arms.values()
        for role in arm.idle_mib
        if not arms or arm.name in arms
    ]
    return Table("Processes", ["arm", "process", "ready after s", "idle MiB", "MiB after the load"], rows, words=2)


def _omissions(result: Result) -> list[str]:
    """What is missing, and why: nothing is left out silently."""
    lines = [f"* {name} was left out: {why}" for name, why in result.left_out.items()]
    for arm in result.arms.values():
        lines += [f"* {arm.name} is not asked for {WORKLOADS[name].words}: {why}." for name, why in arm.cannot.items()]
    for window in result.void:
        words = WORKLOADS[window.workload].words
        where = f"round {window.round + 1}, {window.arm}, {words}"
        lines.append(f"* Void: {where}: {window.failed} failed, `{window.void[:_ERROR_CHARS]}`")
    return ["\n".join(lines)] if lines else []
