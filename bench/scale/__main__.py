"""``python -m bench.scale NAME …``"""

from __future__ import annotations

import resource
import signal
import sys
import time
from typing import TYPE_CHECKING

import click

from bench import machine
from bench.fleet_processes import FleetProcesses
from bench.process import NotReady
from bench.scale.measurements import MEASUREMENTS
from bench.scale.record import Record, path_of, write
from bench.scale.report import PAGE, page_with, table

if TYPE_CHECKING:
    from types import FrameType

FILES_MAX = 1 << 17
_NAMES = "\n".join(f"  {name:10}{each.words}; {each.minutes} minutes" for name, each in MEASUREMENTS.items())


@click.command(
    epilog="\b\nNAMES (all of them if none is given):\n" + _NAMES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--requests", type=click.IntRange(1000), help="how many of the soak")
@click.option("--quick", is_flag=True, help="a first look, with little of everything: half a minute each")
@click.option("--record", is_flag=True, help="keep the results in bench/results/scale and docs/performance.md")
def main(*, names: tuple[str, ...], requests: int | None, quick: bool, record: bool) -> None:
    """Measure how the fleet behaves with much of something. Needs Go, and Java for Pulsar."""
    if quick and record:
        raise click.UsageError("What is recorded is measured in full.")
    raise_file_limit()
    signal.signal(signal.SIGTERM, _terminated)
    missed = False
    for name in names or MEASUREMENTS:
        measurement = MEASUREMENTS[name]
        options = measurement.quick if quick else measurement.full
        if name == "soak" and requests is not None:
            options = {"requests": requests}
        click.echo(f"Measuring {measurement.words} …", err=True)
        began, date, load_before = time.perf_counter(), machine.today(), machine.load_average()
        try:
            with FleetProcesses() as fleet:
                found = measurement.measure(fleet, **options)
        except NotReady as error:
            raise click.ClickException(str(error)) from None
        rows = measurement.rows(found)
        click.echo(table(name, rows).as_text())
        missed = missed or any(row.met is False for row in rows)
        if record:
            command = " ".join(
                ["python -m bench.scale", name, *([f"--requests {requests}"] if name == "soak" and requests else [])]
            )
            kept = Record(
                date=date,
                commit=machine.commit(),
                command=command,
                wall_s=round(time.perf_counter() - began, 1),
                load_average_before=load_before,
                load_average_after=machine.load_average(),
                machine=machine.this_machine(),
                found=found,
            )
            write(path_of(name), kept)
            if name == "soak":
                from bench.scale.soak import draw

                draw(found, path_of(name).with_suffix(".svg"))
            PAGE.write_text(page_with(PAGE.read_text()))
    if missed and not quick:
        raise click.ClickException("Not every aim was met.")


def raise_file_limit() -> None:
    """For this process and all that it starts: thousands of connections are as many files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, max(FILES_MAX, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
