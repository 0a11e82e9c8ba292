"""What the main job costs: memory, time to start, added latency, answers per second, processor time per answer.

``python -m bench.main_job`` starts an upstream, a Pulsar broker, ``fleet up`` and a fleet of separate processes, on
loopback and with data of their own, and calls the upstream directly, through the one and through the other, in turns:
whatever else the machine does meanwhile hits all three alike.
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from bench import machine
from bench.cell import LATENCY_CELLS, RATE_CELLS, Cell, Observation, Setup, observe
from bench.fleet_processes import ROOT, FleetProcesses, NotReady, wait_for_model
from bench.report import report
from bench.result import DIRECT, Result, Run, measured, spreads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from bench.fleet_processes import Process

OUTPUT = ROOT / "bench" / "results" / "main_job.json"
CELLS = (*LATENCY_CELLS, *RATE_CELLS)
WARM_UP_CELLS = (RATE_CELLS[0], RATE_CELLS[2])
MIB = 2**20


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    seconds: float
    rounds: int
    pace_ms: float
    idle_s: float
    with_pulsar: bool


QUICK = Plan(seconds=0.3, rounds=1, pace_ms=1.0, idle_s=1.0, with_pulsar=True)


class MainJob:
    """One run. What it started ends with the ``fleet`` it was given."""

    def __init__(self, fleet: FleetProcesses, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._starts: list[dict[str, float]] = []
        self._idle: list[dict[str, float]] = []
        self._broker: Process | None = None

    def run(self, command: str) -> Result:
        """Measure everything. Raises :class:`bench.fleet_processes.NotReady`."""
        began, date, load_before = time.perf_counter(), machine.today(), machine.load_average()
        upstream = self._fleet.upstream(self._plan.pace_ms)
        if self._plan.with_pulsar:
            say("Starting Pulsar")
            self._broker = self._fleet.broker()
        running = self._start_again_and_again()
        setups = self._setups(upstream, running)
        seen = self._observe(setups)
        loaded = {process.name: _mib(process) for setup in setups[1:] for process in setup.processes[1:]}
        cells = [
            measured(setup.name, cell, seen[setup.name, cell], seen[DIRECT, cell]) for cell in CELLS for setup in setups
        ]
        plan = self._plan
        run = Run(
            date=date,
            commit=machine.commit(),
            command=command,
            seconds=plan.seconds,
            rounds=plan.rounds,
            pace_ms=plan.pace_ms,
            load_average_before=load_before,
            load_average_after=machine.load_average(),
            wall_s=round(time.perf_counter() - began, 1),
        )
        return Result(run, machine.this_machine(), spreads(self._starts), spreads(self._idle), loaded, cells)

    def _start_again_and_again(self) -> dict[str, Process]:
        """Once in each round: start one role after the other, and look at all of them idle. The last ones stay."""
        fleet = self._fleet
        starts: list[Callable[[], Process]] = [fleet.embedded]
        if self._broker is not None:
            starts += [fleet.management, fleet.gateway, lambda: fleet.node("static"), lambda: fleet.node("remote")]
        running: list[Process] = []
        for number in range(self._plan.rounds):
            for process in reversed(running):
                process.end()
            say(f"Starting the roles, round {number + 1} of {self._plan.rounds}")
            running = [start() for start in starts]
            time.sleep(self._plan.idle_s)
            broker = [self._broker] if self._broker is not None else []
            self._starts.append({each.name: each.ready_s for each in [*running, *(broker if not number else [])]})
            self._idle.append({each.name: _mib(each) for each in [*running, *broker]})
        return {process.name: process for process in running}

    def _setups(self, upstream: Process, running: dict[str, Process]) -> list[Setup]:
        embedded = running["fleet up"]
        wait_for_model(embedded)
        setups = [
            Setup(DIRECT, upstream.url, [upstream]),
            Setup("embedded", embedded.url, [upstream, embedded]),
        ]
        if self._broker is not None:
            running["node, static"].end()
            gateway = running["gateway"]
            wait_for_model(gateway)
            roles = [gateway, running["node, remote"], running["management"], self._broker]
            setups.append(Setup("pulsar", gateway.url, [upstream, *roles]))
        return setups

    def _observe(self, setups: list[Setup]) -> dict[tuple[str, Cell], list[Observation]]:
        """Every cell of every setup, the setups in turns."""
        say("Warming up")
        for cell in WARM_UP_CELLS:
            for setup in setups[1:]:
                observe(cell, setup, self._plan.seconds)
        seen: dict[tuple[str, Cell], list[Observation]] = {}
        for number in range(self._plan.rounds):
            for cell in CELLS:
                say(f"Round {number + 1} of {self._plan.rounds}: {cell.kind}, clients: {cell.clients}")
                for setup in setups:
                    seen.setdefault((setup.name, cell), []).append(observe(cell, setup, self._plan.seconds))
        return seen


def say(sentence: str) -> None:
    """How far it is, beside the result."""
    click.echo(f"{sentence} …", err=True)


def _mib(process: Process) -> float:
    return round(process.resident_bytes / MIB, 1)


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@click.command()
@click.option("--seconds", default=2.2, show_default=True, help="how long each cell is measured in a round")
@click.option("--rounds", default=3, show_default=True, help="how often everything is measured")
@click.option("--pace-ms", default=1.0, show_default=True, help="milliseconds between the chunks of the paced stream")
@click.option("--quick", is_flag=True, help="a first look in less than 40 s; writes only with --output")
@click.option("--skip-pulsar", is_flag=True, help="measure only fleet up")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help=f"default: {OUTPUT.relative_to(ROOT)}")
@click.option("--markdown", is_flag=True, help="print the tables as Markdown")
@click.option("--json", "as_json", is_flag=True, help="print the data instead of the tables")
def main(
    *,
    seconds: float,
    rounds: int,
    pace_ms: float,
    quick: bool,
    skip_pulsar: bool,
    output: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Measure what the main job costs on this machine."""
    plan = Plan(seconds, max(rounds, 1), pace_ms, idle_s=3.0, with_pulsar=not skip_pulsar)
    if quick:
        plan = Plan(QUICK.seconds, QUICK.rounds, QUICK.pace_ms, QUICK.idle_s, with_pulsar=not skip_pulsar)
    # Ended in order by either signal: the processes are killed and their data removed on the way out.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with FleetProcesses() as fleet:
            result = MainJob(fleet, plan).run(" ".join(["python -m bench.main_job", *sys.argv[1:]]))
    except NotReady as error:
        raise click.ClickException(str(error)) from None
    data = msgspec.json.format(msgspec.json.encode(result), indent=2)
    written = output if output is not None or quick else OUTPUT
    if written is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_bytes(data + b"\n")
    click.echo(data.decode() if as_json else report(result, markdown=markdown))
    if result.failed:
        raise click.ClickException(f"{result.failed} answers were not complete.")


if __name__ == "__main__":
    main()
