"""One seed: a fleet, its clients, faults and weather; then calm, and the judgement of :mod:`tests.chaos.checker`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from dataclasses import replace as altered
from random import Random
from typing import TYPE_CHECKING, Any

from tests.chaos.asked import Asked
from tests.chaos.evidence import Evidence
from tests.chaos.load import Shape
from tests.simulation.client import ask, body_of, headers_of
from tests.simulation.connection import Connection
from tests.simulation.fleet import KEY, MODEL, Fleet
from tests.simulation.judgement import judge
from tests.simulation.logged import Logged
from tests.simulation.provider import POISON
from tests.simulation.seams import replaced
from tests.simulation.trouble import Trouble
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import Weather

if TYPE_CHECKING:
    from tests.chaos.checker import Finding
    from tests.simulation.fleet import Role

ROLES: tuple[Role, ...] = ("management", "gateway", "gateway", "node", "node", "node")
REQUESTS = (20, 30)
FAULTS = (3, 7)
ROUGH_S = 8.0
"""Requests are asked, and faults befall, within so long."""
TIMEOUT_S = 60.0
"""Three deaths that the broker notices by its keep-alive alone, and certainty about them, take longer than 30 s."""
SHORT = 0.08
"""Share of requests with a deadline of at most :data:`SHORT_S`, in which some are not answered."""
SHORT_S = 2.0
LEAVES = 0.08
"""Share of clients that hang up whatever they have heard by then."""
SLOW = 0.08
"""Share of clients that read slowly."""
POISONED = 0.15
"""Share of episodes with a request that kills its nodes."""
CONTINUING = 0.3
"""Share of episodes whose engines go on after a given text."""
CALM_S = 180.0
"""So long after its clients' last end a fleet may take to settle: a request that nobody tells of is forgotten 60 s
after its deadline."""
UNSENT_S = 15.0
"""A send waits 10 s for its receipt before it is repeated, and words about ends may be lost before it begins."""
LOOK_S = 0.5
QUIET_LOOKS = 3
"""So often in a row nothing may be under way before it counts: a message may be just between two places."""


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    evidence: Evidence
    findings: list[Finding]
    trace: list[str]
    digest: str
    """Of the trace."""
    ended_at: float
    """By the world's clock."""

    @property
    def violations(self) -> list[str]:
        """With their invariants."""
        return [f"{each.invariant} {text}" for each in self.findings for text in each.violations]

    def __str__(self) -> str:
        """For whoever has to mend it."""
        lines = "\n  ".join(self.violations)
        return f"seed {self.seed}:\n  {lines}\n  repeat it: scripts/chaos simulation --seed {self.seed} --trace"


def play(seed: int, *, traced: bool = False) -> Outcome:
    """Everything that happens in one seed. The same every time."""
    loop = VirtualLoop()
    try:
        with Logged(traced=traced) as logged:
            return loop.run_until_complete(Episode(loop, seed, logged, traced=traced).run())
    finally:
        loop.close()


class Episode:
    """``run`` tells it in order."""

    def __init__(self, loop: VirtualLoop, seed: int, logged: Logged, *, traced: bool) -> None:
        self._loop, self._seed = loop, seed
        self._random = random = Random(f"{seed} episode")
        self._asked: list[Asked] = []
        weather, continues = Weather.by(random), random.random() < CONTINUING
        self._fleet = Fleet(loop, seed, weather, continues=continues, traced=traced)
        self._logged = logged
        logged.trace = self._fleet.trace
        loop.set_exception_handler(logged.callback_failed)
        self._shape = Shape("canary", MODEL, timeout_s=TIMEOUT_S, hang_ups=0.08)
        self._trouble = Trouble(self._fleet, Random(f"{seed} trouble"), self._asked)
        self._fleet.trace.add("seed", f"{seed}: {weather}, continues={continues}")

    async def run(self) -> Outcome:
        """Rough weather, then calm, then the judgement."""
        fleet = self._fleet
        with replaced(fleet):
            for role in ROLES:
                place = fleet.add(role)
                fleet.start(place)
                self._trouble.watch(place)
            await fleet.known()
            await asyncio.gather(*self._clients(), *self._troubles())
            fleet.sea.weather = altered(fleet.sea.weather, lost=0.0, twice=0.0, unknown=0.0)
            fleet.clerk.rough = fleet.provider.rough = False
            for life in fleet.lives():
                life.crash = None
            left = await self._settled()
            evidence = self._evidence(left)
            trace, ended_at = fleet.trace, self._loop.now
            lines, digest = trace.lines, trace.digest
            await fleet.close()
        findings = judge(evidence, fleet.books, fleet.sea.overheard.published, self._logged.faults)
        return Outcome(self._seed, evidence, findings, lines, digest, ended_at)

    def _clients(self) -> list[asyncio.Task[None]]:
        count = self._random.randint(*REQUESTS)
        poisoned = self._random.randint(1, count) if self._random.random() < POISONED else None
        bodies = [self._shape.body(self._random, number) for number in range(1, count + 1)]
        if poisoned is not None:
            bodies[poisoned - 1]["messages"][-1]["content"] += f" {POISON}"
        times = sorted(self._random.random() * ROUGH_S for _ in bodies)
        return [
            asyncio.create_task(self._client(number, body, at_s))
            for number, (body, at_s) in enumerate(zip(bodies, times, strict=True), 1)
        ]

    async def _client(self, number: int, body: dict[str, Any], at_s: float) -> None:
        random = Random(f"{self._seed} client {number}")
        await asyncio.sleep(at_s)
        fleet = self._fleet
        life = random.choice([place.now for place in fleet.of("gateway")])
        hang_up = random.randint(1, 3) if body.get("stream") and random.random() < self._shape.hang_ups else None
        short = random.random() < SHORT
        timeout_s = round(random.uniform(0.05, SHORT_S), 3) if short else TIMEOUT_S
        asked = Asked(number, body, life.name, timeout_s, self._loop.now, short=short, hang_up_after=hang_up)
        self._asked.append(asked)
        leaves_s = random.random() * 1.5 if random.random() < LEAVES else None
        slow = random.random() < SLOW
        connection = Connection(self._loop, random, life, headers_of(asked, KEY), body_of(asked), slow=slow)
        await ask(fleet, connection, asked, leaves_s)

    def _troubles(self) -> list[asyncio.Task[None]]:
        random = Random(f"{self._seed} times of trouble")
        times = [random.random() * ROUGH_S for _ in range(random.randint(*FAULTS))]
        return [asyncio.create_task(self._befall(at_s)) for at_s in times]

    async def _befall(self, at_s: float) -> None:
        await asyncio.sleep(at_s)
        self._trouble.befall()

    async def _settled(self) -> list[str]:
        until = self._loop.now + CALM_S
        quiet = 0
        while quiet < QUIET_LOOKS and self._loop.now < until:
            await asyncio.sleep(LOOK_S)
            left = self._fleet.under_way()
            quiet = 0 if left else quiet + 1
        return left

    def _evidence(self, left: list[str]) -> Evidence:
        fleet = self._fleet
        usage = fleet.books.usage
        replayed = fleet.books.replayed(self._random)
        return Evidence(
            asked=self._asked,
            deaths={life.name: life.died_at for life in fleet.lives() if life.died_at is not None},
            executions=fleet.provider.executions,
            charges=fleet.books.charges,
            charged=len(fleet.books.charges),
            usage=usage,
            faults=self._trouble.faults,
            left=left,
            replays=[
                f"{name}: {usage[name]}, {value} in a replay"
                for name, value in replayed.items()
                if usage[name] != value
            ],
            replayed=len(fleet.books.facts),
            poison=fleet.provider.killed,
            silent=fleet.sea.overheard.silent(self._trouble.faults),
            fenced=fleet.sea.overheard.fenced_alive(self._trouble.faults),
            unsent_s=UNSENT_S,
            frozen={life.name: life.frozen_s for life in fleet.lives()},
            dropped=fleet.sea.lost,
        )
