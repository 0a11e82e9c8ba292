"""Many seeds, one after the other, on all cores: what ``scripts/chaos simulation`` does."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.checker import Finding, added, ends
from tests.chaos.table import Result, counted
from tests.simulation.episode import play
from tests.simulation.virtual_loop import BEGIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.chaos.fault import Fault

TOGETHER = 10
"""Seeds that a process plays at a time."""
SAY_EVERY = 500
WHAT = "simulation"
NOT_A_FAULT = "black hole"
"""Deduced by the judge from the others."""


@dataclass(frozen=True)
class Played:
    """What is kept of a seed."""

    seed: int
    findings: list[Finding]
    ends: Counter[str]
    faults: list[Fault]
    requests: int
    executions: int
    charges: int
    virtual_s: float
    text: str
    """For people, if something was violated."""


@dataclass
class Campaign:
    """What came of all of them."""

    result: Result
    failed: list[Played] = field(default_factory=list)


def played(seed: int) -> Played:
    """One seed."""
    outcome = play(seed)
    evidence = outcome.evidence
    return Played(
        seed,
        outcome.findings,
        ends(evidence.asked),
        [fault for fault in evidence.faults if fault.kind != NOT_A_FAULT],
        sum(each.ended_at is not None and each.end != "refused" for each in evidence.asked),
        sum(map(len, evidence.executions.values())),
        evidence.charged,
        outcome.ended_at - BEGIN_S,
        str(outcome) if outcome.violations else "",
    )


def campaign(first: int, count: int, say: Callable[[str], None] = lambda _: None) -> Campaign:
    """Play ``count`` seeds from ``first`` on."""
    began = time.monotonic()
    # What was imported stays: that no garbage collection looks at it again saves a third of a seed's time.
    with ProcessPoolExecutor(min(count, os.cpu_count() or 1), initializer=gc.freeze) as pool:
        return total(pool.map(played, range(first, first + count), chunksize=TOGETHER), first, began, say)


def total(all_played: Iterable[Played], first: int, began: float, say: Callable[[str], None]) -> Campaign:
    """The sums. Faults are counted as they come, so that nothing but figures is kept of those that are well."""
    command = f"scripts/chaos {WHAT} --first {first} --seeds "
    result = Result(WHAT, command, None, 0.0, 0, {}, {}, 0, 0)
    campaign = Campaign(result)
    ends_: Counter[str] = Counter()
    virtual_s, seeds = 0.0, 0
    for each in all_played:
        seeds += 1
        ends_ += each.ends
        virtual_s += each.virtual_s
        result.requests += each.requests
        result.executions += each.executions
        result.charges += each.charges
        result.findings = added([result.findings, each.findings]) if result.findings else added([each.findings])
        for kind, count in counted(each.faults).items():
            known = result.faults.setdefault(kind, dict.fromkeys(count, 0))
            for name, value in count.items():
                known[name] += value
        if each.text:
            campaign.failed.append(each)
            say(each.text)
        if seeds % SAY_EVERY == 0:
            say(f"{time.monotonic() - began:6.1f} s  {seeds} seeds, {len(campaign.failed)} with violations")
    result.command += str(seeds)
    result.ends = dict(ends_)
    result.seconds = time.monotonic() - began
    result.notes.append(f"{seeds} seeds with {virtual_s / 3600:.0f} hours of simulated time.")
    return campaign
