"""Keeps one engine running: starts it, waits until it is well, sees its end, and starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from process.guarding import Guard
from process.lifecycle import Tasks
from process.logging import Log
from workernode.engine import EngineUnusable
from workernode.local import deaths
from workernode.local.child import Child
from workernode.local.figures import Figures, figures_of
from workernode.local.health import READY, STARTING, Health, health_of
from workernode.local.presets import HOST
from workernode.local.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from wire.event import NodeEventType
    from wire.presence import NodeState
    from workernode.local.deaths import Death
    from workernode.local.figures import FigureNames

log = Log("node.engine")

ASK_EVERY_S = 0.2
LOOK_EVERY_S = 1.0
ASK_WAIT_S = 5.0
ANSWER_BYTES_MAX = 4 * 2**20
HUNG_S = 180.0
STOP_GRACE_S = 2.0
"""When a node stops its engine, nobody waits for an answer of it any more."""
LAST_LINES = 8


@dataclass(frozen=True)
class Report:
    """How the engine is, for presence; and an event, where one is to be told."""

    state: NodeState
    sentence: str | None = None
    event: NodeEventType | None = None


@dataclass(frozen=True)
class Program:
    """What to run. ``command`` gets the port to listen on."""

    command: Callable[[int], list[str]]
    environment: Mapping[str, str]
    health: tuple[str, ...]
    figures: FigureNames
    key: str | None
    ours: bool
    log: str
    stall_s: float


class Life:
    """One engine that takes requests, from its readiness to its end."""

    def __init__(self, child: Child, url: str) -> None:
        self.url = url
        self.ended = child.ended
        self.pid = child.pid
        self.figures = Figures()
        self.well_at = asyncio.get_running_loop().time()
        """Loop time at which it was last known to work."""

    def works(self) -> None:
        """A part of an answer came from it."""
        self.well_at = asyncio.get_running_loop().time()


class Supervisor:
    """Runs one program for ever. ``began`` is awaited with each life before it is reported, ``over`` after it."""

    def __init__(
        self,
        program: Program,
        *,
        report: Callable[[Report], None],
        began: Callable[[Life], Awaitable[None]],
        over: Callable[[], Awaitable[None]],
    ) -> None:
        self.restarts = Restarts()
        self._program = program
        self._report = report
        self._began = began
        self._over = over
        self._in_trouble = False
        self._guard: Guard | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks = Tasks(log)

    def start(self) -> asyncio.Task[None]:
        """Run in the background."""
        self._guard = Guard(STOP_GRACE_S)
        headers = {"authorization": f"Bearer {self._program.key}"} if self._program.key else {}
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ASK_WAIT_S), headers=headers, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self._tasks.start(self._run(), "engine")

    async def aclose(self) -> None:
        """End the engine. Closing twice is harmless."""
        await self._tasks.aclose()
        if self._session is not None:
            await self._session.close()
        if self._guard is not None:
            guard, self._guard = self._guard, None
            await asyncio.to_thread(guard.release)

    async def _run(self) -> None:
        while True:
            death, ready_s = await self._one_life()
            again = self.restarts.ended(death, ready_s)
            minutes = round(again.pause_s / 60)
            rest = f"It is tried again in {minutes} minutes." if again.given_up else "It starts again."
            sentence = f"{death.sentence} {rest}"
            log.error(sentence, action="engine_ended", kind=death.kind, pause_s=again.pause_s)
            if again.given_up:
                self._report(Report("misconfigured", sentence, None if self._in_trouble else "node.misconfigured"))
                self._in_trouble = True
            else:
                self._report(Report("starting", sentence, None if self._in_trouble else "node.engine_died"))
            await asyncio.sleep(again.pause_s)

    async def _one_life(self) -> tuple[Death, float | None]:
        """See :meth:`_live`. Whatever goes wrong there ends one life, and not the looking after."""
        try:
            return await self._live()
        except EngineUnusable as error:
            return deaths.unusable(str(error)), None
        except Exception as error:  # an engine is somebody else's program: it may answer anything
            log.error("The engine could not be looked after.", error=error, action="engine_neglected")
            return deaths.neglected(), None

    async def _live(self) -> tuple[Death, float | None]:
        """One engine from its start to its end: what it died of, and how long it took requests."""
        assert self._guard is not None
        program, port, loop = self._program, _free_port(), asyncio.get_running_loop()
        argv = program.command(port)
        began_at = loop.time()
        try:
            child = await Child.start(argv, program.environment, self._guard, program.log)
        except OSError as error:
            return deaths.not_started(error.filename or argv[0], error), None
        log.info("The engine starts.", action="engine_starts", pid=child.pid, port=port)
        url = f"http://{HOST}:{port}"
        try:
            if (death := await self._until_ready(child, url)) is not None:
                for line in list(child.tail)[-LAST_LINES:]:
                    log.error(line, action="engine_said", pid=child.pid)
                return death, None
            child.ready = True
            life, ready_at = Life(child, url), loop.time()
            log.info("The engine is ready.", action="engine_ready", pid=child.pid, took_s=round(ready_at - began_at, 1))
            await self._began(life)
            self._report(Report("ready", None, "node.recovered" if self._in_trouble or self.restarts.count else None))
            self._in_trouble = False
            death = await self._until_over(child, life)
            return death, loop.time() - ready_at
        finally:
            # Whoever ends a loop cancels everything in it, and more than once: the child goes all the same.
            try:
                await self._over()
                await child.end(STOP_GRACE_S)
            finally:
                child.kill()
                await child.aclose()

    async def _until_ready(self, child: Child, url: str) -> Death | None:
        """Wait until the engine is well; what it died of instead, if it did."""
        loop = asyncio.get_running_loop()
        told, moved_at, seen = "", loop.time(), (STARTING, 0)
        while not await _over_within(child.ended, ASK_EVERY_S):
            health = await self._ask(url) or STARTING
            if health == READY:
                return None
            if (health, child.lines) != seen:
                moved_at, seen = loop.time(), (health, child.lines)
            if health.sentence != told:
                told = health.sentence
                log.info(told, action="engine_progress", pid=child.pid)
                if not self._in_trouble:
                    self._report(Report("starting", told))
            if loop.time() - moved_at > self._program.stall_s:
                child.kill()
                return deaths.stalled(self._program.stall_s)
        return self._death(child)

    async def _until_over(self, child: Child, life: Life) -> Death:
        """Look after a ready engine until its end."""
        loop = asyncio.get_running_loop()
        while not await _over_within(child.ended, LOOK_EVERY_S):
            if await self._ask(life.url) == READY:
                life.well_at = loop.time()
            if loop.time() - life.well_at > HUNG_S:
                child.kill()
                return deaths.hung(HUNG_S)
            if self._program.figures.waiting:
                life.figures = figures_of(await self._metrics(life), self._program.figures)
        return self._death(child)

    def _death(self, child: Child) -> Death:
        return deaths.death_of(child.code, child.tail, ours=self._program.ours)

    async def _ask(self, url: str) -> Health | None:
        """How it says that it is; None if it does not answer."""
        for path in self._program.health:
            status, body = await self._get(f"{url}{path}")
            if status and (health := health_of(status, body)) is not None:
                return health
        return None

    async def _metrics(self, life: Life) -> str:
        return (await self._get(f"{life.url}/metrics"))[1].decode(errors="replace")

    async def _get(self, url: str) -> tuple[int, bytes]:
        """Status and body; 0 where nobody answers."""
        assert self._session is not None
        try:
            async with self._session.get(url) as response:
                body = bytearray()
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        break
                return response.status, bytes(body)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, b""


async def _over_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
