"""Whole roles inside the test's event loop, each on its own broker connection and real HTTP ports."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import gateway.role
import workernode.role
from gateway.settings import GatewaySettings
from process.settings import load
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker
    from dead_letters.deciding import Replay


_PORTS_EACH = 1_000
_FIRST_PORT = 20_000 + _PORTS_EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_start = random.SystemRandom().randrange(_PORTS_EACH)
_ports = itertools.cycle(_FIRST_PORT + (_start + number) % _PORTS_EACH for number in range(_PORTS_EACH))


def free_port() -> int:
    """A port that nobody listens on, and that neither the system nor another process of this run gives anybody."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("they never end")


class Running:
    """A role that was started: where it listens, and how to end it."""

    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event, port: int, broker: Broker) -> None:
        self.task, self.stop, self.port, self.broker = task, stop, port, broker
        self.model = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def end(self) -> None:
        """Stop it in order."""
        self.stop.set()
        await asyncio.wait_for(self.task, 30)
        await self.broker.aclose()

    async def kill(self) -> None:
        """End its broker connection at once, as a dead process would, then its tasks."""
        await self.broker.aclose()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class InProcessFleet:
    """Starts roles with environment-like settings; ends what still runs in :meth:`aclose`."""

    def __init__(self, connect: Callable[[], Broker], common: dict[str, str], *, start_s: float = 30) -> None:
        self._connect = connect
        self._common = common
        self._start_s = start_s
        self.model = common.get("MODEL_NAME", "static")
        """The model that nodes serve unless told otherwise."""
        self.replay: Replay | None = None
        """What managements that are started from now on replay with."""
        self._running: list[Running] = []

    async def gateway(self, **env: str) -> Running:
        """A ready gateway."""
        port = free_port()
        settings = load(GatewaySettings, {**self._common, "PORT": str(port), **env})
        return await self._start(gateway.role.run, settings, port)

    async def node(self, **env: str) -> Running:
        """A ready node."""
        port = free_port()
        settings = load(NodeSettings, {**self._common, "NODE_PORT": str(port), **env})
        running = await self._start(workernode.role.run, settings, port)
        running.model = settings.model
        return running

    async def management(self, database: str, **env: str) -> Running:
        """A ready management."""
        import management.role
        from management.settings import ManagementSettings

        port = free_port()
        settings = load(
            ManagementSettings, {**self._common, "MANAGEMENT_PORT": str(port), "DATABASE_URL": database, **env}
        )
        return await self._start(partial(management.role.run, replay=self.replay), settings, port)

    async def aclose(self) -> None:
        for running in reversed(self._running):
            if not running.task.done():
                await running.end()
            await running.broker.aclose()

    async def _start(self, run: Any, settings: Any, port: int) -> Running:
        broker = self._connect()
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.get_running_loop().create_task(run(settings, broker, stop, ready=ready.set))
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=self._start_s)
        waiting.cancel()
        if task.done():
            task.result()
        assert ready.is_set(), "the role was not ready in time"
        running = Running(task, stop, port, broker)
        self._running.append(running)
        return running
