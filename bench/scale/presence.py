"""A gateway that hears a thousand nodes: what their heartbeats cost it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING

import msgspec

from bench.scale.crowd import crowd
from bench.scale.record import Row, at_most, told

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses
    from bench.process import Process

CORE_AIM_PERCENT = 2.0
SETTLE_S = 12.0
"""By then the gateway knows all nodes and has opened the topics of their models."""


class Heard(msgspec.Struct, frozen=True):
    """What a gateway takes of a core and holds, alone and with the nodes' heartbeats, while nobody asks."""

    nodes: int
    models: int
    seconds: float
    known_nodes: int
    alone_percent: float
    percent: float
    alone_mib: float
    mib: float


def measure(fleet: FleetProcesses, *, nodes: int, models: int, seconds: float) -> Heard:
    """So long alone, and so long with the nodes."""
    fleet.broker()
    gateway = fleet.gateway()
    return asyncio.run(_measured(fleet.pulsar_url, gateway, nodes, models, seconds))


async def _measured(pulsar_url: str, gateway: Process, nodes: int, models: int, seconds: float) -> Heard:
    await asyncio.sleep(SETTLE_S / 4)
    alone_percent, alone_mib = await _share(gateway, seconds)
    async with crowd(pulsar_url, nodes, models):
        await asyncio.sleep(SETTLE_S)
        percent, mib = await _share(gateway, seconds)
        known = await asyncio.to_thread(_known, gateway)
    return Heard(nodes, models, seconds, known, alone_percent, percent, alone_mib, mib)


async def _share(process: Process, seconds: float) -> tuple[float, float]:
    before = process.cpu_s
    await asyncio.sleep(seconds)
    return round((process.cpu_s - before) * 100 / seconds, 3), round(process.resident_bytes / 2**20, 2)


def _known(gateway: Process) -> int:
    with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=10) as answer:
        return int(json.load(answer)["nodes"])


def rows(found: Heard) -> list[Row]:
    """For people."""
    what = f"heartbeats of {found.nodes:,} nodes of {found.models} models"
    return [
        at_most(f"{what}: of a gateway's core", found.percent - found.alone_percent, CORE_AIM_PERCENT, "%"),
        Row("nodes that it knows", f"{found.known_nodes:,}", f"{found.nodes:,}", found.known_nodes == found.nodes),
        told("memory for them", found.mib - found.alone_mib, "MiB", 1),
    ]
