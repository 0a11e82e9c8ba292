"""One run: every arm started, then round after round of every workload, the arms in turns.

Whatever else the machine does meanwhile hits all arms alike, and each round begins with another arm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from bench import machine
from bench.arm import DIRECT, OURS
from bench.arms import ARMS
from bench.process import NotReady
from bench.result import MeasuredArm, Result, Run, spreads
from bench.window import Window, observe
from bench.workload import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.arm import Arm
    from bench.fleet_processes import FleetProcesses
    from bench.process import Process

BEARABLE = 0.8
"""Of what an arm gives 16 clients who ask without a pause: the rate that it bears."""
CALIBRATION = (WORKLOADS["whole-16"], WORKLOADS["stream-16"])
CHEAPER = 0.97
"""An arm whose answers still cost less than this part of what they cost at best before is not yet warm."""
WARM_AFTER = 4
"""It is after so many windows in a row that were no cheaper."""
MIB = 2**20
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    arms: Sequence[str]
    workloads: Sequence[Workload]
    rounds: int
    seconds: float
    starts: int
    """How often our own arms are started, to tell how long that takes."""
    idle_s: float
    calibration_s: float
    calibrations_max: int


class Comparison:
    """One run. What it started ends with the ``fleet`` it was given."""

    def __init__(self, fleet: FleetProcesses, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._arms: list[Arm] = []
        self._left_out: dict[str, str] = {}
        self._starts: dict[str, list[dict[str, float]]] = {}
        self._idle_mib: dict[str, list[dict[str, float]]] = {}
        self._idle_cpu: dict[str, list[dict[str, float]]] = {}
        self._closed_per_s: dict[str, dict[str, float]] = {}

    def run(self, command: str) -> Result:
        """Measure everything. Raises :class:`bench.process.NotReady` without an upstream."""
        plan = self._plan
        began, date, load_before = time.perf_counter(), machine.today(), machine.load_average()
        self._fleet.upstream()
        for name in dict.fromkeys([DIRECT, *plan.arms]):
            try:
                self._arms.append(self._started(name))
            except NotReady as error:
                say(f"{name} is left out: {error}")
                self._left_out[name] = str(error)
        self._calibrate()
        windows = self._rounds()
        run = Run(
            date=date,
            commit=machine.commit(),
            command=command,
            seconds=plan.seconds,
            rounds=plan.rounds,
            load_average_before=load_before,
            load_average_after=machine.load_average(),
            wall_s=round(time.perf_counter() - began, 1),
        )
        arms = {arm.name: self._measured(arm) for arm in self._arms}
        return Result(run, machine.this_machine(), arms, self._left_out, windows)

    def _started(self, name: str) -> Arm:
        """The last of several starts, if it is ours."""
        arm: Arm | None = None
        for number in range(max(1, self._plan.starts) if name in OURS else 1):
            if arm is not None:
                arm.end()
            say(f"Starting {name}" + (f", for the {number + 1}. time" if number else ""))
            arm = ARMS[name](self._fleet)
            if arm.processes:
                time.sleep(self._plan.idle_s)
            self._starts.setdefault(name, []).append({each.name: each.ready_s for each in arm.processes})
            self._idle_mib.setdefault(name, []).append({each.name: _mib(each) for each in arm.processes})
        assert arm is not None
        return arm

    def _calibrate(self) -> None:
        """Warm every arm up, and see what it then can bear. One that gives no answer at all is left out."""
        for arm in list(self._arms):
            say(f"Warming {arm.name} up")
            found: dict[str, float] = {}
            for workload in CALIBRATION:
                window = self._warmed(arm, workload)
                found["stream" if workload.stream else "whole"] = window.answers_per_s
                if not window.answers:
                    self._left_out[arm.name] = f"It gave no complete answer to {workload.words}: {window.void}"
            self._closed_per_s[arm.name] = found
            if arm.name in self._left_out:
                say(f"{arm.name} is left out: {self._left_out[arm.name]}")
                self._arms.remove(arm)

    def _warmed(self, arm: Arm, workload: Workload) -> Window:
        """The last of as many windows as it takes until answers get no cheaper.

        A broker's code is compiled while it runs, which takes it longer than any other arm: what is told shall hold for
        one that has run for an hour.
        """
        best, no_cheaper = float("inf"), 0
        for _ in range(self._plan.calibrations_max):
            window = observe(arm, workload, rate=0, seconds=self._plan.calibration_s, round_=-1)
            if not window.answers:
                break
            each = sum(window.cpu_s.values()) / window.answers
            no_cheaper = 0 if each < CHEAPER * best else no_cheaper + 1
            best = min(best, each)
            if no_cheaper == WARM_AFTER:
                break
        return window

    def _rounds(self) -> list[Window]:
        windows: list[Window] = []
        for number in range(self._plan.rounds):
            self._look_at_idle()
            for workload in self._plan.workloads:
                say(f"Round {number + 1} of {self._plan.rounds}: {workload.words}")
                for arm in rotated(self._arms, number):
                    if workload.name not in arm.cannot:
                        windows += self._tried(arm, workload, number)
        return windows

    def _tried(self, arm: Arm, workload: Workload, round_: int) -> list[Window]:
        """Once; a window with an error is void, and measured once more."""
        closed_per_s = self._closed_per_s[arm.name]["stream" if workload.stream else "whole"]
        tried: list[Window] = []
        while not tried or (tried[-1].void and len(tried) < 2):
            rate = bearable(workload.rate, closed_per_s)
            tried.append(observe(arm, workload, rate=rate, seconds=self._plan.seconds, round_=round_))
            if tried[-1].void:
                say(f"Void, {arm.name}, {workload.name}: {tried[-1].failed} failed: {tried[-1].void}")
        return tried

    def _look_at_idle(self) -> None:
        """What everything takes of a core while nobody asks."""
        before = {(arm.name, each.name): each.cpu_s for arm in self._arms for each in arm.processes}
        began = time.perf_counter()
        time.sleep(self._plan.idle_s)
        percent = 100 / (time.perf_counter() - began)
        for arm in self._arms:
            spent = {each.name: percent * (each.cpu_s - before[arm.name, each.name]) for each in arm.processes}
            self._idle_cpu.setdefault(arm.name, []).append(spent)

    def _measured(self, arm: Arm) -> MeasuredArm:
        return MeasuredArm(
            name=arm.name,
            version=arm.version,
            notes=dict(arm.notes),
            cannot=dict(arm.cannot),
            closed_per_s={kind: round(rate, 1) for kind, rate in self._closed_per_s[arm.name].items()},
            start_s=spreads(self._starts[arm.name]),
            idle_mib=spreads(self._idle_mib[arm.name]),
            loaded_mib={each.name: _mib(each) for each in arm.processes},
            idle_cpu_percent=spreads(self._idle_cpu.get(arm.name, [])),
        )


def bearable(wanted: float, closed_per_s: float) -> float:
    """The rate at which an arm is asked: what is wanted, or else the part that it can bear."""
    return min(wanted, max(1.0, round(BEARABLE * closed_per_s)))


def rotated(arms: Sequence[_Item], by: int) -> list[_Item]:
    """Each round begins with another one."""
    begin = by % len(arms) if arms else 0
    return [*arms[begin:], *arms[:begin]]


def say(sentence: str) -> None:
    """How far it is, beside the result."""
    click.echo(f"{sentence} …", err=True)


def _mib(process: Process) -> float:
    return round(process.resident_bytes / MIB, 1)
