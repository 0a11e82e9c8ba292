"""A comparison as pictures: what a request costs, and how long it takes."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture

from bench import figure
from bench.arm import DIRECT, ECHO, EMBEDDED, FASTCHAT, LITELLM, PULSAR
from bench.table import number_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.generator import Percentiles
    from bench.result import Result
    from bench.window import Window

ARM_COLOURS = {
    DIRECT: "#9a9a9a",
    ECHO: "#c2c2c2",
    EMBEDDED: "#56b4e9",
    PULSAR: "#0072b2",
    LITELLM: "#d55e00",
    FASTCHAT: "#e69f00",
}
ROLE_SHADES = (1.0, 0.72, 0.48, 0.3)
"""How opaque the roles of one arm are, one after the other."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "workernode",  # the same data make the same file
}


def draw(result: Result, to: Path) -> list[Path]:
    """Write the pictures into a directory."""
    with mpl.rc_context(STYLE):
        pictures = {"comparison-cpu.svg": _cpu(result), "comparison-latency.svg": _latency(result)}
    written = []
    for name, picture in pictures.items():
        with mpl.rc_context(STYLE):
            picture.savefig(to / name, metadata={"Date": None}, bbox_inches="tight", facecolor="white")
        written.append(to / name)
    return written


def _cpu(result: Result) -> Picture:
    picture = Picture(figsize=(9, 2.8), layout="constrained")
    panels = picture.subplots(1, 3, sharey=True)
    _bars(panels[0], result, figure.CPU, "whole-500", "ms of processor time per whole answer")
    _bars(panels[1], result, figure.CPU, "stream-500", "per stream of 50 chunks at once")
    _bars(panels[2], result, figure.CPU_PER_CHUNK, "paced-128", "µs per chunk, 128 paced streams")
    roles = (f"{name}: {', '.join(arm.idle_mib)}" for name, arm in result.arms.items() if len(arm.idle_mib) > 1)
    picture.supxlabel("from dark to light, " + "; ".join(roles), fontsize=8)
    return picture


def _bars(axes: Axes, result: Result, what: figure.Figure, workload: str, title: str) -> None:
    """A bar for each arm, of one piece for each role, the least first; the number stands behind it."""
    arms = [name for name, arm in result.arms.items() if arm.idle_mib]
    for place, name in enumerate(arms):
        begin = 0.0
        for number, role in enumerate(result.arms[name].idle_mib):
            spread = figure.spread(result, what, workload, name, (role,))
            if spread is None:
                continue
            shade = ROLE_SHADES[number % len(ROLE_SHADES)]
            axes.barh(place, spread.median, left=begin, color=ARM_COLOURS.get(name), alpha=shade, height=0.66)
            begin += spread.median
        if begin:
            axes.annotate(number_text(begin), (begin, place), (3, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.16)
    axes.set_title(title, loc="left", fontsize=9)


def _latency(result: Result) -> Picture:
    picture = Picture(figsize=(9, 3.2), layout="constrained")
    panels = picture.subplots(1, 3, sharey=True)
    _curves(panels[0], result, "whole-1", "whole answers, one at a time, ms", lambda window: window.total_ms)
    _curves(panels[1], result, "whole-64", "whole answers, 64 clients, ms", lambda window: window.total_ms)
    _curves(panels[2], result, "paced-128", "added delay of a chunk, 128 streams, ms", lambda w: w.chunk_delay_ms)
    panels[0].set_ylabel("% within")
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return picture


def _curves(
    axes: Axes, result: Result, workload: str, title: str, part: Callable[[Window], Percentiles | None]
) -> None:
    """How many percent of the answers came within how long, the median of the rounds at each percent."""
    for name in result.arms:
        parts = (part(window) for window in result.counted(workload, name).values())
        curves = [each.curve for each in parts if each is not None and each.curve]
        if curves:
            middle = [statistics.median(values) for values in zip(*curves, strict=True)]
            wide = 2.0 if name in (PULSAR, EMBEDDED) else 1.2
            axes.plot(middle, range(len(middle)), color=ARM_COLOURS.get(name), label=name, linewidth=wide)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, 100)
    axes.set_title(title, loc="left", fontsize=9)
