"""A bad network between the roles and the broker: latency, resets, silence. A proxy stands before each role."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from tests.chaos.fault import Fault
from tests.chaos.fleet import ChaosFleet
from tests.chaos.scenarios import CLIENTS, Bench, bench
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.fault import Kind
    from tests.pulsar_server import PulsarServer

BLACK_HOLE_S = 10.0
LATENCY_S = 0.1
ANSWERS_BETWEEN = 60
SERVICE_BACK_S = 60.0


async def bad_network(
    server: PulsarServer, directory: Path, *, seed: int, say: Callable[[str], None] = lambda _: None
) -> Bench:
    """2 gateways, 2 nodes, 1 management, each role behind a proxy of its own that misbehaves in turn."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = {
            role: await stack.enter_async_context(TcpProxy("127.0.0.1", server.port))
            for role in ("node", "gateway", "management")
        }
        fleet = await stack.enter_async_context(ChaosFleet(server, directory))
        slots = [
            fleet.add(role, PULSAR_URL=f"pulsar://127.0.0.1:{proxies[role].port}")
            for role in ("management", "gateway", "gateway", "node", "node")
        ]
        await fleet.start(*slots)
        for life in fleet.alive("gateway"):
            await fleet.known(life)
        run = bench(fleet, seed)
        run.load.start(CLIENTS // 2)
        network = _Network(run)
        for role, proxy in proxies.items():
            for inflict in (network.reset, network.slow_down, network.fall_silent):
                await network.served()
                fault = await inflict(role, proxy)
                say(f"{time.monotonic() - run.began:6.1f} s  {fault.kind} for {role}s, {fault.in_flight} in flight")
        await network.served()
        await run.load.stop()
        await run.judge(network.faults)
        return run


class _Network:
    """Does one thing after the other to a proxy."""

    def __init__(self, run: Bench) -> None:
        self.faults: list[Fault] = []
        self._load = run.load
        self._loop = asyncio.get_running_loop()

    async def served(self) -> None:
        """Wait until so many requests that were asked from now on are answered."""
        first = len(self._load.asked)
        await until(
            lambda: sum(each.end == "answered" for each in self._load.asked[first:]) >= ANSWERS_BETWEEN,
            within_s=SERVICE_BACK_S,
        )

    async def reset(self, role: str, proxy: TcpProxy) -> Fault:
        """Every connection breaks."""
        fault = self._note("reset", role)
        proxy.reset()
        await self.served()
        fault.until = self._loop.time()
        return fault

    async def slow_down(self, role: str, proxy: TcpProxy) -> Fault:
        """Everything takes its time."""
        fault = self._note("latency", role)
        proxy.latency_s = LATENCY_S
        await self.served()
        proxy.latency_s = 0.0
        fault.until = self._loop.time()
        return fault

    async def fall_silent(self, role: str, proxy: TcpProxy) -> Fault:
        """Nothing comes through, and nothing is closed; then it goes on."""
        fault = self._note("black hole", role)
        proxy.blackhole()
        await asyncio.sleep(BLACK_HOLE_S)
        proxy.restore()
        await self.served()
        fault.until = self._loop.time()
        return fault

    def _note(self, kind: Kind, role: str) -> Fault:
        in_flight = len(self._load.open())
        fault = Fault(kind, self._loop.time(), in_flight, in_flight, whom=role)
        self.faults.append(fault)
        return fault
