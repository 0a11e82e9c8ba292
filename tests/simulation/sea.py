"""The broker and the ways to it: one memory broker, and what happens to all who are connected to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.memory import MemoryServer
from broker.memory_server import NON_PERSISTENT
from tests.simulation.overheard import Overheard
from tests.simulation.virtual_loop import WORLD

if TYPE_CHECKING:
    from random import Random

    from broker.memory_server import Topic
    from tests.simulation.rough_broker import RoughBroker
    from tests.simulation.trace import Trace
    from tests.simulation.virtual_loop import VirtualLoop
    from tests.simulation.weather import Weather

BACK_S = 2.0
"""Within so long after the broker everybody is connected again, each at another time."""


class Sea:
    """Shared by all :class:`tests.simulation.rough_broker.RoughBroker`."""

    def __init__(self, loop: VirtualLoop, random: Random, weather: Weather, trace: Trace) -> None:
        self.loop, self.random, self.weather, self.trace = loop, random, weather, trace
        self.server = MemoryServer()
        self.connections: list[RoughBroker] = []
        self.lost = 0
        """Non-persistent messages that nobody heard."""
        self.overheard = Overheard()
        self.doubled = 0
        """Persistent messages that were stored once more."""
        self._deaf: dict[str, float] = {}
        self._slow_until = 0.0
        self._slow_s = 0.0
        self._blocked: dict[str, float] = {}

    def some(self, at_most_s: float) -> float:
        """A time."""
        return self.random.random() * at_most_s

    def happens(self, share: float) -> bool:
        """Whether it does this time."""
        return share > 0 and self.random.random() < share

    def store(self, topic: Topic, payload: bytes, published_ms: int) -> None:
        """A message has reached the broker. A non-persistent one may be dropped there, which nobody is told."""
        if not self.server.available:
            return
        if topic.persistent:
            topic.publish(payload, published_ms)
        elif self.happens(self.weather.lost) or self._deaf.get(topic.name, 0.0) > self.loop.now:
            self.lost += 1
            self.trace.add("broker", f"drops a message of {short(topic.name)}")
        else:
            topic.publish(payload, published_ms)

    def unload(self, name: str, seconds: float) -> None:
        """A topic moves to another broker: what is held is given out again; a non-persistent one is deaf meanwhile."""
        if not self.server.available:
            return
        self.trace.add("broker", f"unloads {short(name)}")
        for connection in self.connections:
            connection.unsettle(name)
        if name.startswith(NON_PERSISTENT):
            self._deaf[name] = self.loop.now + seconds
        else:
            self.server.unload(name)

    def slow_down(self, seconds: float, at_most_s: float) -> None:
        """The broker's disk is slow for so long: what is kept takes up to ``at_most_s`` longer to be written."""
        self.trace.add("broker", f"has a slow disk for {seconds:.3f} s")
        self._slow_until, self._slow_s = self.loop.now + seconds, at_most_s

    def writing_s(self) -> float:
        """How long the disk takes now for a message."""
        return self.some(self._slow_s) if self._slow_until > self.loop.now else 0.0

    def block(self, name: str, seconds: float) -> None:
        """A topic takes nothing for so long, as one whose quota is used up: its producers are closed."""
        self.trace.add("broker", f"blocks {short(name)} for {seconds:.3f} s")
        self._blocked[name] = self.loop.now + seconds
        for connection in self.connections:
            connection.blocked(name)
        self.loop.call_later(seconds, self._take_again, name, context=WORLD)

    def takes(self, topic: Topic) -> bool:
        """Whether it may be published to now."""
        return self._blocked.get(topic.name, 0.0) <= self.loop.now

    def restart(self, seconds: float) -> float:
        """The broker dies and is back after so long. Returns when the last one is connected again."""
        self.trace.add("broker", "dies")
        for connection in self.connections:
            connection.broke()
        self.server.set_available(False)
        last = self.loop.now
        for connection in self.connections:
            away_s = seconds + self.some(BACK_S)
            last = max(last, self.loop.now + away_s)
            connection.lose(away_s)
        self.server.unload_all()
        self.loop.call_later(seconds, self._back, context=WORLD)
        return last

    def _take_again(self, name: str) -> None:
        for connection in self.connections:
            connection.taken_again(name)

    def _back(self) -> None:
        self.trace.add("broker", "is back")
        self.server.set_available(True)


def short(topic: str) -> str:
    """The last part of a topic's name."""
    return topic.rpartition("/")[2]
