"""What is aimed at, as ratios between arms of one run, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import figure
from bench.arm import ECHO, FASTCHAT, LITELLM, PULSAR
from bench.figure import ALL
from bench.spread import Spread, significant

if TYPE_CHECKING:
    from bench.figure import Figure
    from bench.result import Result

FLEET = ("gateway", "remote node", "broker")
GATEWAY = ("gateway",)


@dataclass(frozen=True)
class Target:
    """Ours over theirs, of the same figure of the same workload in the same round, is to be at most so much."""

    words: str
    figure: Figure
    workload: str
    against: str
    at_most: float | None
    aim: float | None = None
    """What would be better still."""
    roles: tuple[str, ...] = ALL
    """Of ours; of theirs all count."""


TARGETS = (
    Target("CPU of gateway, node and broker per whole answer", figure.CPU, "whole-500", LITELLM, 1 / 12, 1 / 15, FLEET),
    Target("CPU of gateway, node and broker per whole answer", figure.CPU, "whole-500", FASTCHAT, 1 / 6, None, FLEET),
    Target("CPU of gateway, node and broker per stream", figure.CPU, "stream-500", LITELLM, 1 / 30, 1 / 40, FLEET),
    Target("CPU of gateway, node and broker per stream", figure.CPU, "stream-500", FASTCHAT, 1 / 6, None, FLEET),
    Target("the same per chunk, 128 paced streams", figure.CPU_PER_CHUNK, "paced-128", LITELLM, 1 / 4, None, FLEET),
    Target("CPU of the gateway per whole answer", figure.CPU, "whole-500", LITELLM, 1 / 40, None, GATEWAY),
    Target("CPU of the gateway per whole answer", figure.CPU, "whole-500", ECHO, None, 4, GATEWAY),
    Target("added p50, one at a time", figure.ADDED_P50, "whole-1", LITELLM, 1 / 5, 1 / 8),
    Target("added first token p50, one at a time", figure.ADDED_FIRST, "stream-1", LITELLM, 1 / 5, 1 / 8),
    Target("p99, 64 clients", figure.TOTAL_P99, "whole-64", LITELLM, 1 / 10),
)


@dataclass(frozen=True)
class Ratio:
    """A target beside what was measured."""

    target: Target
    ours: Spread
    theirs: Spread
    ratio: Spread
    """Of the rounds that have both."""

    @property
    def verdict(self) -> str:
        """By the median."""
        target, measured = self.target, self.ratio.median
        if target.aim is not None and measured <= significant(target.aim):
            return "aim met"
        if target.at_most is None:
            return "aim missed"
        return "met" if measured <= significant(target.at_most) else "missed"


def ratio(result: Result, target: Target) -> Ratio | None:
    """``None`` if no round has both arms."""
    ours = figure.by_round(result, target.figure, target.workload, PULSAR, target.roles)
    theirs = figure.by_round(result, target.figure, target.workload, target.against)
    both = [number for number in ours if theirs.get(number)]
    if not both:
        return None
    return Ratio(
        target,
        Spread.of([ours[number] for number in both]),
        Spread.of([theirs[number] for number in both]),
        Spread.of([ours[number] / theirs[number] for number in both]),
    )
