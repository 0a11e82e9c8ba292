"""Clients that never tire: some that ask one request after the other, and leave a log of all of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.chaos.asked import Asked
from tests.chaos.client import ask
from tests.chaos.oracle import DIVERGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.chaos.life import Life

PAUSE_S = 0.25
"""How long a client that was turned away waits before it asks again."""


@dataclass(frozen=True)
class Shape:
    """What is asked: how long answers take, and how often clients leave or send rubbish."""

    canary: str
    """A word in every prompt that must show up nowhere else."""
    model: str
    timeout_s: float = 60.0
    hang_ups: float = 0.03
    """Share of streams whose clients leave in the middle."""
    diverging: float = 0.3
    """Share of answers that cannot be continued by another execution."""
    long: float = 0.04
    """Share of answers that take seconds."""

    def body(self, random: Random, number: int) -> dict[str, Any]:
        """The next request's body."""
        is_long = random.random() < self.long
        tokens = random.randint(30, 60) if is_long else random.randint(3, 14)
        first = random.uniform(1.0, 3.0) if is_long else random.uniform(0.05, 0.5)
        between = random.uniform(0.02, 0.06)
        prompt = f"r{number} tokens={tokens} delay-first={first:.2f} delay-between={between:.3f} {self.canary}"
        if random.random() < self.diverging:
            prompt += f" {DIVERGE}"
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        if random.random() < 0.5:
            body["stream"] = True
            if random.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        return body


@dataclass
class Load:
    """``asked`` is the client log. Requests are numbered over the whole run."""

    shape: Shape
    key: str
    random: Random
    gateways: Callable[[], list[Life]]
    """Who can be asked now."""
    asked: list[Asked] = field(default_factory=list)
    numbered: int = 0
    _workers: list[asyncio.Task[None]] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self, life: Life | None = None) -> list[Asked]:
        """Requests that wait for their end: all, or those of one gateway."""
        name = life.name if life else None
        return [each for each in self.asked if each.ended_at is None and name in (None, each.life)]

    def ended(self) -> int:
        """How many were accepted and have ended."""
        return sum(each.ended_at is not None and each.end != "refused" for each in self.asked)

    def start(self, clients: int) -> None:
        """Let so many clients ask until :meth:`stop`."""
        self._stop.clear()
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work()) for _ in range(clients)]

    async def stop(self) -> None:
        """Let every client see its last request to its end."""
        self._stop.set()
        await asyncio.gather(*self._workers)
        self._workers = []

    async def send(self, count: int, life: Life | None = None) -> list[asyncio.Task[Asked]]:
        """Ask so many at once, on connections of their own; the tasks end with their answers."""
        return [
            asyncio.get_running_loop().create_task(self.alone(life or self.random.choice(self.gateways())))
            for _ in range(count)
        ]

    def next(self, life: Life, body: dict[str, Any] | None = None) -> Asked:
        """Write the next request into the log."""
        self.numbered += 1
        made = body is None
        body = body or self.shape.body(self.random, self.numbered)
        leaves = made and body.get("stream") and self.random.random() < self.shape.hang_ups
        asked = Asked(
            self.numbered,
            body,
            life.name,
            self.shape.timeout_s,
            asyncio.get_running_loop().time(),
            hang_up_after=self.random.randint(1, 3) if leaves else None,
        )
        self.asked.append(asked)
        return asked

    async def alone(self, life: Life, body: dict[str, Any] | None = None) -> Asked:
        """Ask one request on a connection of its own, and see it to its end."""
        asked = self.next(life, body)
        async with aiohttp.ClientSession() as session:
            await ask(session, life.url, self.key, asked)
        return asked

    async def _work(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self._stop.is_set():
                gateways = self.gateways()
                if not gateways:
                    await asyncio.sleep(PAUSE_S)
                    continue
                life = self.random.choice(gateways)
                asked = self.next(life)
                await ask(session, life.url, self.key, asked)
                if asked.end not in ("answered", "hung_up"):
                    await asyncio.sleep(PAUSE_S)
