"""What ``fleet bench`` leaves behind: plain data, and nothing that was not measured in that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.machine import Machine
from bench.spread import Spread
from bench.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence


class Run(msgspec.Struct, frozen=True):
    """When and how it was measured."""

    date: str
    commit: str
    command: str
    seconds: float
    rounds: int
    load_average_before: float
    load_average_after: float
    wall_s: float


class MeasuredArm(msgspec.Struct, frozen=True):
    """An arm apart from its windows. What is told by role is keyed by the names of its processes."""

    name: str
    version: str
    notes: dict[str, str]
    cannot: dict[str, str]
    """Workloads that it was not asked to bear, and why."""
    closed_per_s: dict[str, float]
    """Answers per second, whole and stream, that it gave 16 clients before the first round; rates follow from them."""
    start_s: dict[str, Spread]
    idle_mib: dict[str, Spread]
    loaded_mib: dict[str, float]
    """After the last window."""
    idle_cpu_percent: dict[str, Spread]
    """Of a core, while nobody asks, once in each round. It is not subtracted from anything."""


class Result(msgspec.Struct, frozen=True):
    """The whole of it."""

    run: Run
    machine: Machine
    arms: dict[str, MeasuredArm]
    left_out: dict[str, str]
    """Arms that could not be started, and why."""
    windows: list[Window]
    """Void ones too. One that was void was measured once more, so that a round may have two."""

    def counted(self, workload: str, arm: str) -> dict[int, Window]:
        """The good windows by round."""
        return {
            each.round: each for each in self.windows if each.workload == workload and each.arm == arm and not each.void
        }

    @property
    def unmeasured(self) -> list[tuple[str, str]]:
        """Workloads and arms all of whose windows were void."""
        tried = dict.fromkeys((each.workload, each.arm) for each in self.windows)
        return [each for each in tried if not self.counted(*each)]

    @property
    def void(self) -> list[Window]:
        """The windows that count for nothing."""
        return [each for each in self.windows if each.void]


def as_json(result: Result) -> bytes:
    """For people who look at it, too: a line for each window."""
    windows = b",\n".join(b"    " + msgspec.json.encode(each) for each in result.windows)
    rest = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(result, windows=[])), indent=2)
    return rest.replace(b'"windows": []', b'"windows": [\n' + windows + b"\n  ]") + b"\n"


def spreads(rounds: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """One spread for each name, in the order in which they came."""
    names = dict.fromkeys(name for each in rounds for name in each)
    return {name: Spread.of([each[name] for each in rounds if name in each]) for name in names}
