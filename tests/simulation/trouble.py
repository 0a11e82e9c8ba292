"""Faults by a seed: what befalls a simulated fleet while its clients ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from tests.chaos.fault import Fault
from tests.chaos.points import points
from tests.simulation.virtual_loop import WORLD

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.asked import Asked
    from tests.chaos.fault import Kind
    from tests.simulation.fleet import Fleet, Place
    from tests.simulation.life import Life

SHARES: dict[str, int] = {
    "node": 5,
    "gateway": 3,
    "management": 2,
    "point": 5,
    "unload": 3,
    "disconnect": 4,
    "freeze": 3,
    "drain": 2,
    "broker": 1,
    "mute": 1,
    "deaf": 1,
    "slow disk": 1,
    "blocked": 1,
    "clock": 1,
}
"""How often each happens. ``point``: somebody dies at a crash point."""
AWAY_S = 4.0
"""The longest that a connection is lost, or a process frozen, without being cut off for good."""
GONE_S = 5.0
"""From here on nodes may take a gateway for dead."""
CUT_OFF = 0.2
"""Share of lost connections, and of freezes, that last longer."""
OUTAGE_S = 6.0
LONG_S = 90.0
LONG = 0.1
"""Share of freezes that last so long, far beyond any patience; then the process goes on as if nothing had been."""
SLOW_S = 8.0
"""A slow disk is slow for so long, and takes so long for a message."""
BLOCKED_S = 40.0
SET_MS = 3_600_000
"""A clock is set by so much, either way."""
START_S = 2.0
DRAIN_S = 12.0
UNSETTLED_S = 1.5
PASSES_MAX = 4

POINTS = points()


class Trouble:
    """Does one fault after the other and notes it. Whoever dies is started again after a while."""

    def __init__(self, fleet: Fleet, random: Random, asked: list[Asked]) -> None:
        self.faults: list[Fault] = []
        fleet.provider.on_later = self._later
        self._fleet, self._random, self._asked = fleet, random, asked

    def watch(self, place: Place) -> None:
        """Note the death of the latest life of this place, whatever causes it, and start the next one."""
        life = place.now
        life.on_death.insert(0, lambda: self._died(place, life))

    def befall(self) -> None:
        """Something, to somebody."""
        match self._random.choices(list(SHARES), list(SHARES.values()))[0]:
            case "node" | "gateway" | "management" as role:
                if (place := self._someone(role)) is not None:
                    place.now.die()
            case "point":
                whose, name = self._random.choice(POINTS)
                if (place := self._someone(whose)) is not None:
                    place.now.crash = (name, self._random.randint(1, PASSES_MAX))
            case "unload":
                self._unload()
            case "disconnect":
                self._disconnect()
            case "freeze":
                self._freeze()
            case "drain":
                self._drain()
            case "mute" | "deaf" as which:
                self._one_way(which)
            case "slow disk":
                self._slow_down()
            case "blocked":
                self._block()
            case "clock":
                self._set_clock()
            case _:
                self._restart_broker()

    def _someone(self, *roles: str) -> Place | None:
        places = [place for place in self._fleet.places if place.role in roles and place.lives and place.now.alive]
        return self._random.choice(places) if places else None

    def _died(self, place: Place, life: Life) -> None:
        at = life.died_at
        assert at is not None
        held = self._fleet.held(life)
        in_flight = {"node": held, "gateway": len(self._open(life)), "management": held}[life.role]
        self.faults.append(Fault(place.role, at, in_flight, held if life.role == "node" else 0, whom=life.name))
        self._start_later(place)

    def _start_later(self, place: Place) -> None:
        self._fleet.loop.call_later(self._random.uniform(0.05, START_S), self._start, place)

    def _start(self, place: Place) -> None:
        self._fleet.start(place)
        self.watch(place)

    def _unload(self) -> None:
        fleet = self._fleet
        topics = [fleet.topics.requests("model")] * 3 + [fleet.topics.results, *fleet.passing_topics()]
        topic = self._random.choice(topics)
        held = fleet.workers.held if topic == topics[0] else 0
        self._note("unload", len(self._open()), held)
        fleet.sea.unload(topic, self._random.uniform(0.05, 1.0))

    def _disconnect(self) -> None:
        place = self._someone("node", "node", "gateway", "management")
        if place is None:
            return
        seconds = self._away_s()
        life = place.now
        held = self._fleet.held(life)
        self._fleet.connection(life).lose(seconds)
        self._note_absence("disconnect", life, seconds, held)

    def _freeze(self) -> None:
        place = self._someone("node", "gateway", "management")
        if place is None or place.now.frozen:
            return
        seconds = self._random.uniform(0.0, LONG_S) if self._random.random() < LONG else self._away_s()
        life, held = place.now, self._fleet.held(place.now)
        self._fleet.trace.add(life.name, f"freezes for {seconds:.3f} s")
        life.freeze(seconds)
        self._note_absence("freeze", life, seconds, held)
        keep_alive_s = self._fleet.sea.weather.keep_alive_s
        if seconds > keep_alive_s:
            # The broker takes it for dead, and what it held goes to others.
            connection = self._fleet.connection(life)
            self._fleet.loop.call_later(keep_alive_s, connection.lose, seconds - keep_alive_s, context=WORLD)

    def _one_way(self, which: Literal["mute", "deaf"]) -> None:
        place = self._someone("node", "node", "gateway", "management")
        if place is None:
            return
        life, seconds = place.now, self._random.uniform(0.05, AWAY_S)
        connection = self._fleet.connection(life)
        if which == "mute":
            connection.mute(seconds)
        else:
            connection.deafen(seconds)
        self._note_absence(which, life, seconds, self._fleet.held(life))

    def _slow_down(self) -> None:
        seconds = self._random.uniform(1.0, SLOW_S)
        fault = self._note("slow disk", len(self._open()), 0)
        fault.whom, fault.until = "disk", fault.at + seconds + SLOW_S
        self._fleet.sea.slow_down(seconds, SLOW_S)

    def _block(self) -> None:
        topics = self._fleet.topics
        topic = self._random.choice([topics.requests("model"), topics.results])
        seconds = self._random.uniform(1.0, BLOCKED_S)
        fault = self._note("blocked", len(self._open()), 0)
        fault.whom, fault.until = "results" if topic == topics.results else "requests", fault.at + seconds
        self._fleet.sea.block(topic, seconds)

    def _set_clock(self) -> None:
        place = self._someone("node", "gateway", "management")
        if place is None:
            return
        by_ms = self._random.randint(-SET_MS, SET_MS)
        self._fleet.trace.add(place.now.name, f"has its clock set by {by_ms} ms")
        place.now.skew_ms += by_ms
        self._note("clock", len(self._open()), 0).whom = place.now.name

    def _away_s(self) -> float:
        if self._random.random() < CUT_OFF:
            return self._random.uniform(AWAY_S, 3 * GONE_S)
        return self._random.uniform(0.05, AWAY_S)

    def _note_absence(self, kind: Kind, life: Life, seconds: float, held: int) -> None:
        in_flight = len(self._open(life)) if life.role == "gateway" else held
        fault = self._note(kind, in_flight, held if life.role == "node" else 0)
        fault.whom, fault.until = life.name, fault.at + seconds

    def _drain(self) -> None:
        place = self._someone("node", "node", "gateway")
        if place is None:
            return
        life = place.now
        held = self._fleet.held(life)
        in_flight = held if life.role == "node" else len(self._open(life))
        fault = self._note("drain", in_flight, held if life.role == "node" else 0)
        # What it cannot finish in time it hands back.
        fault.whom, fault.until = life.name, fault.at + DRAIN_S
        place.stop.set()
        asyncio.get_running_loop().create_task(self._start_when_ended(place, life), name="drain")

    async def _start_when_ended(self, place: Place, life: Life) -> None:
        await life.ended.wait()
        if life.died_at is None:
            self._start_later(place)

    def _later(self, life: Life) -> None:
        fault = self._note("later", 1, 1)
        fault.whom, fault.until = life.name, fault.at

    def _restart_broker(self) -> None:
        if not self._fleet.sea.server.available:
            return
        fault = self._note("broker", len(self._open()), self._fleet.workers.held)
        fault.until = self._fleet.sea.restart(self._random.uniform(0.2, OUTAGE_S))

    def _note(self, kind: Kind, in_flight: int, may_repeat: int) -> Fault:
        fault = Fault(kind, self._fleet.loop.now, in_flight, may_repeat)
        self.faults.append(fault)
        return fault

    def _open(self, life: Life | None = None) -> list[Asked]:
        name = life.name if life else None
        return [each for each in self._asked if each.ended_at is None and name in (None, each.life)]
