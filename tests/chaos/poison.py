"""A request that kills every node that works on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.chaos.fault import Fault
from tests.chaos.scenarios import bench

if TYPE_CHECKING:
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.scenarios import Bench

MARKER = "poison-marker"
NODES = 5
BESIDE = 6


async def poisoned(fleet: ChaosFleet, seed: int) -> Bench:
    """One such request among others, on a fleet of five nodes; each of them dies of it."""
    run = bench(fleet, seed)
    nodes = [fleet.add("node", module="tests.chaos.sabotage.poisonable") for _ in range(NODES)]
    await fleet.start(fleet.add("management"), fleet.add("gateway"), *nodes)
    gateway = fleet.alive("gateway")[0]
    await fleet.known(gateway)
    body = run.load.shape.body(run.random, 0)
    body["messages"][-1]["content"] = f"r1 tokens=5 {MARKER} {fleet.canary}"
    asked = await run.load.alone(gateway, body)
    await asyncio.gather(*await run.load.send(BESIDE, gateway))
    dead = [node.now for node in nodes if not node.now.alive]
    faults = [Fault("node", life.died_at or 0.0, 1, 1) for life in dead]
    await run.judge(faults, poison={asked.name: len(dead)})
    return run
