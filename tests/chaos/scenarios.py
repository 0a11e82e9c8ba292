"""Whole runs: a fleet, a load, faults, and the judgement. What ``scripts/chaos`` offers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tests.chaos import evidence as looking
from tests.chaos.checker import Finding, added, check, ends
from tests.chaos.fleet import ChaosFleet
from tests.chaos.intruder import intrude
from tests.chaos.kill_loop import KillLoop, deck
from tests.chaos.load import Load, Shape
from tests.chaos.replay import replayed_sums
from tests.chaos.table import Result, counted
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.fault import Fault, Kind
    from tests.chaos.intruder import Tried
    from tests.pulsar_server import PulsarServer

CLIENTS = 40
KILLS_PER_EPISODE = 24


@dataclass(frozen=True)
class Size:
    """How long a run goes on: until there were so many requests and so many kills, or until ``minutes`` have passed."""

    requests: int
    kills: int
    minutes: float | None = None
    spare: frozenset[str] = frozenset()
    """What is not killed."""
    clients: int = CLIENTS


@dataclass
class Bench:
    """A fleet with its load, and what was found so far."""

    fleet: ChaosFleet
    load: Load
    random: Random
    began: float = field(default_factory=time.monotonic)
    findings: list[list[Finding]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    executions: int = 0

    async def judge(
        self, faults: list[Fault], *, tried: list[Tried] | None = None, poison: dict[str, int] | None = None
    ) -> list[Finding]:
        """Close an episode: gather the evidence of everything since the last one, and check it."""
        asked = self.load.asked
        found = await looking.gather(self.fleet, asked, faults)
        found.tried, found.poison = tried or [], poison or {}
        await self._replay(found)
        findings = check(found)
        self.findings.append(findings)
        self.faults += faults
        for end, count in ends(asked).items():
            self.ends[end] = self.ends.get(end, 0) + count
        self.requests += self.load.ended()
        self.executions += sum(len(executions) for executions in found.executions.values())
        for name in found.executions:
            del self.fleet.oracle.executions[name]
        self.load.asked = []
        return findings

    def late(self, size: Size) -> bool:
        """Whether the time is over."""
        return size.minutes is not None and time.monotonic() - self.began > size.minutes * 60

    def result(self, what: str, command: str, seed: int) -> Result:
        """Of all episodes."""
        return Result(
            what,
            command,
            seed,
            time.monotonic() - self.began,
            self.requests,
            self.ends,
            counted(self.faults),
            self.executions,
            self.fleet.ledger.charged,
            added(self.findings),
        )

    async def _replay(self, found: looking.Evidence) -> None:
        events = await asyncio.to_thread(self.fleet.ledger.all_events)
        sums = await replayed_sums(events, self.fleet.directory, self.random)
        found.replayed = len(events)
        found.replays = [
            f"{name}: {found.usage[name]} in the ledger, {value} in a replay"
            for name, value in sums.items()
            if found.usage[name] != value
        ]


def bench(fleet: ChaosFleet, seed: int) -> Bench:
    """A load for a fleet."""
    random = Random(seed)
    load = Load(Shape(fleet.canary, fleet.model), fleet.key, random, fleet.serving)
    return Bench(fleet, load, random)


async def kills(
    server: PulsarServer,
    directory: Path,
    *,
    seed: int,
    size: Size,
    say: Callable[[str], None] = lambda _: None,
) -> Bench:
    """The kill -9 loop: 1 broker of its own, 2 gateways, 3 nodes, 1 management.

    An episode has :data:`KILLS_PER_EPISODE` kills, and the checker judges each.
    """
    async with ChaosFleet(server, directory, owns_broker=True) as fleet:
        slots = [fleet.add(role) for role in ("management", "gateway", "gateway", "node", "node", "node")]
        await fleet.start(*slots)
        for life in fleet.alive("gateway"):
            await fleet.known(life)
        run = bench(fleet, seed)
        random = run.random
        done = 0
        while (done < size.kills or run.requests < size.requests) and not run.late(size):
            left = max(0, size.kills - done)
            episode = min(KILLS_PER_EPISODE, left) if left < 2 * KILLS_PER_EPISODE else KILLS_PER_EPISODE
            wanted = size.requests - run.requests if left <= episode else 0
            cards = deck(episode, random, size.spare) if episode else []
            await _episode(run, cards, size, wanted, say)
            done += episode
        return run


async def _episode(run: Bench, cards: list[Kind], size: Size, wanted: int, say: Callable[[str], None]) -> None:
    loop = KillLoop(run.fleet, run.load, run.random)
    run.load.start(size.clients)
    for kind in cards:
        if run.late(size):
            break
        fault = await loop.inflict(kind)
        say(f"{time.monotonic() - run.began:6.1f} s  {kind}, {fault.in_flight} in flight; {run.load.ended()} requests")
    await until(lambda: run.late(size) or run.load.ended() >= wanted, within_s=3600, every_s=0.2)
    await run.load.stop()
    tried = await intrude(run.fleet, run.fleet.alive("gateway")[0])
    findings = await run.judge(loop.faults, tried=tried)
    say(f"{time.monotonic() - run.began:6.1f} s  judged: {sum(len(each.violations) for each in findings)} violations")
    for finding in findings:
        for violation in finding.violations[:10]:
            say(f"          {finding.invariant} {violation}")
