"""Kills of nodes, gateways, management and the broker by a seed, under load, aimed at work in flight."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.chaos.fault import Fault
from tests.chaos.fleet import SLOTS_PER_NODE
from tests.waiting import until

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.asked import Asked
    from tests.chaos.fault import Kind
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.life import Life, Slot
    from tests.chaos.load import Load

SHARES: dict[Kind, int] = {"node": 6, "gateway": 3, "management": 2, "broker": 1}
"""How often each is killed: 150, 75, 50 and 25 of 300."""
KILLS_PER_UNLOAD = 3
AIM_S = 3.0
"""How long a kill waits for its victim to have work."""
UNSETTLED_S = 1.5
"""Of a request that ended this recently the acknowledgement may still be on its way to the broker."""
SERVICE_BACK_S = 60.0
ANSWERS_BACK = 5


def deck(kills: int, random: Random, spare: frozenset[str] = frozenset()) -> list[Kind]:
    """About so many kills in the shares of :data:`SHARES`, at least one of each, shuffled; and unloads between them."""
    shares = {kind: share for kind, share in SHARES.items() if kind not in spare}
    total = sum(shares.values())
    cards: list[Kind] = []
    for kind, share in shares.items():
        cards += [kind] * max(1, round(kills * share / total))
    random.shuffle(cards)
    with_unloads: list[Kind] = []
    for number, card in enumerate(cards, 1):
        with_unloads.append(card)
        if number % KILLS_PER_UNLOAD == 0:
            with_unloads.append("unload")
    return with_unloads


class KillLoop:
    """Does one fault after the other, and sees to it that the fleet is complete again after each."""

    def __init__(self, fleet: ChaosFleet, load: Load, random: Random) -> None:
        self.faults: list[Fault] = []
        self._fleet = fleet
        self._load = load
        self._random = random

    async def inflict(self, kind: Kind) -> Fault:
        """One fault of this kind, and the repair."""
        match kind:
            case "broker":
                return await self._kill_broker()
            case "unload":
                return await self._unload()
            case _:
                return await self._kill(kind)

    async def _kill(self, kind: Kind) -> Fault:
        slot = self._random.choice([slot for slot in self._fleet.of(kind) if slot.now.alive])
        in_flight = await self._aim(slot)
        # A node holds at most as many as it has slots, begun or about to begin.
        may_repeat = min(len(self._unsettled()), SLOTS_PER_NODE) if kind == "node" else 0
        slot.now.kill()
        fault = self._note(kind, in_flight, may_repeat)
        await self._fleet.start(slot)
        return fault

    async def _aim(self, slot: Slot) -> int:
        """Wait until the victim has work, and say how much."""
        found = [0]

        async def has_work() -> bool:
            found[0] = await self._work_of(slot)
            return found[0] > 0

        # An idle victim is killed as well, and not counted as a hit.
        with contextlib.suppress(AssertionError):
            await until(has_work, within_s=AIM_S, every_s=0.01)
        return found[0]

    async def _work_of(self, slot: Slot) -> int:
        match slot.role:
            case "node":
                return sum(self._executes(slot.now, each) for each in self._load.open())
            case "gateway":
                return len(self._load.open(slot.now))
            case _:
                return await self._fleet.admin.results_backlog()

    async def _kill_broker(self) -> Fault:
        server = self._fleet.server
        await until(lambda: self._load.open(), within_s=AIM_S)
        fault = self._note("broker", len(self._load.open()), len(self._unsettled()))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await self._served()
        fault.until = asyncio.get_running_loop().time()
        return fault

    async def _unload(self) -> Fault:
        fault = self._note("unload", len(self._load.open()), len(self._unsettled()))
        await asyncio.to_thread(self._fleet.server.unload, self._fleet.admin.request_topic)
        await self._served()
        return fault

    async def _served(self) -> None:
        """Wait until requests that were asked from now on are answered."""
        last = self._load.numbered

        def answers() -> bool:
            new = self._load.asked[-(self._load.numbered - last) :] if self._load.numbered > last else []
            return sum(each.end == "answered" for each in new) >= ANSWERS_BACK

        await until(answers, within_s=SERVICE_BACK_S)

    def _note(self, kind: Kind, in_flight: int, may_repeat: int) -> Fault:
        fault = Fault(kind, asyncio.get_running_loop().time(), in_flight, may_repeat)
        self.faults.append(fault)
        return fault

    def _unsettled(self) -> list[Asked]:
        """Requests that are open, or were until just now."""
        since = asyncio.get_running_loop().time() - UNSETTLED_S
        return [each for each in self._load.asked if each.ended_at is None or each.ended_at > since]

    def _executes(self, life: Life, each: Asked) -> bool:
        executions = self._fleet.oracle.executions.get(each.name, [])
        return bool(executions) and executions[-1].life == life.name
