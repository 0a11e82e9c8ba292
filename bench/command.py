"""``fleet bench``."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import machine
from bench.arms import ARMS
from bench.comparison import Comparison, Plan
from bench.fleet_processes import FleetProcesses
from bench.process import ROOT, NotReady
from bench.report import report
from bench.result import as_json
from bench.workload import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from bench.result import Result

RESULTS = ROOT / "bench" / "results"
OUTPUT = RESULTS / "comparison.json"
QUICK_ARMS = ("direct", "embedded")
QUICK_WORKLOADS = ("whole-1", "stream-16", "whole-500", "paced-128")


def _names(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str | None], list[str] | None]:
    """Names out of a table, by commas."""

    def names(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
        found = value.split(",") if value else None
        for name in found or ():
            if name not in known:
                raise click.BadParameter(f"{name!r} is none of {', '.join(known)}")
        return found

    return names


@click.command(short_help="Compare with other gateways.")
@click.option("--arms", callback=_names(ARMS), help=f"by commas, of {', '.join(ARMS)}; default: all")
@click.option("--workloads", callback=_names(WORKLOADS), help=f"by commas, of {', '.join(WORKLOADS)}; default: all")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="how often everything is measured")
@click.option("--seconds", default=4.0, show_default=True, help="how long each window asks")
@click.option("--starts", default=3, show_default=True, type=click.IntRange(1), help="how often our arms are started")
@click.option("--quick", is_flag=True, help=f"a look within a minute at {' and '.join(QUICK_ARMS)}")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="write the data and plots there")
@click.option("--record", is_flag=True, help=f"write them to {OUTPUT.relative_to(ROOT)}, and into the documents")
@click.option("--json", "json_", is_flag=True, help="print the data instead of the tables")
@click.option("--markdown", is_flag=True, help="print the tables as Markdown")
def bench(
    *,
    arms: list[str] | None,
    workloads: list[str] | None,
    rounds: int,
    seconds: float,
    starts: int,
    quick: bool,
    output: Path | None,
    record: bool,
    json_: bool,
    markdown: bool,
) -> None:
    """Compare with other gateways, in one interleaved run on this machine.

    Other people's gateways are installed into environments of their own in the cache. Needs Go, and for Pulsar Java.
    """
    few = QUICK_WORKLOADS if quick else WORKLOADS
    plan = Plan(
        arms=arms or (QUICK_ARMS if quick else list(ARMS)),
        workloads=[WORKLOADS[name] for name in workloads or few],
        rounds=1 if quick else rounds,
        seconds=0.5 if quick else seconds,
        starts=1 if quick else starts,
        idle_s=0.5 if quick else 3.0,
        calibration_s=0.3 if quick else 3.0,
        calibrations_max=2 if quick else 40,
    )
    # Ended in order by either signal: the processes are killed and their data removed on the way out.
    signal.signal(signal.SIGTERM, _terminated)
    if record:
        machine.wait_until_quiet()
    try:
        with FleetProcesses() as fleet:
            result = Comparison(fleet, plan).run(" ".join(["fleet bench", *sys.argv[2:]]))
    except NotReady as error:
        raise click.ClickException(str(error)) from None
    written = OUTPUT if record else output
    if written is not None:
        _write(result, written)
    if record:
        subprocess.run([sys.executable, str(ROOT / "scripts" / "numbers")], check=True)
    click.echo(as_json(result).decode() if json_ else report(result, markdown=markdown))
    if result.unmeasured:
        void = "; ".join(f"{arm}, {workload}" for workload, arm in result.unmeasured)
        raise click.ClickException(f"Every window was void: {void}.")


def _write(result: Result, output: Path) -> None:
    """The data, and the plots beside them where matplotlib is installed."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(as_json(result))
    try:
        from bench.plots import draw
    except ModuleNotFoundError as missing:
        click.echo(f"No plots: {missing.name} is missing (run pip install '.[bench]' in the checkout).", err=True)
    else:
        draw(result, output.parent)


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
