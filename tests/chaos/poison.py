"""A request that kills every node that works on it, and those that are beside it each time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.chaos.fault import Fault
from tests.chaos.scenarios import bench
from tests.waiting import until

if TYPE_CHECKING:
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.life import Slot
    from tests.chaos.scenarios import Bench

MARKER = "poison-marker"
BESIDE = 4
AFTERWARDS = 6


async def poisoned(fleet: ChaosFleet, seed: int) -> Bench:
    """Such a request comes to the only node while it works on others; whenever the node dies, the next one starts."""
    run = bench(fleet, seed)
    slot = fleet.add("node", module="tests.chaos.sabotage.poisonable")
    await fleet.start(fleet.add("management"), fleet.add("gateway"), slot)
    gateway = fleet.alive("gateway")[0]
    await fleet.known(gateway)

    def body(words: str) -> dict[str, Any]:
        prompt = f"r{run.load.numbered + 1} tokens=5 {words} {fleet.canary}"
        return {"model": fleet.model, "messages": [{"role": "user", "content": prompt}]}

    keeper = asyncio.ensure_future(_keep(fleet, slot))
    beside = []
    for _ in range(BESIDE):
        beside.append(asyncio.ensure_future(run.load.alone(gateway, body("delay-first=1.0"))))
        await until(lambda: fleet.oracle.running() == len(beside))
    asked = await run.load.alone(gateway, body(MARKER))
    await asyncio.gather(*beside)
    await asyncio.gather(*await run.load.send(AFTERWARDS, gateway))
    keeper.cancel()
    dead = [life for life in slot.lives if not life.alive]
    faults = [Fault("node", life.died_at or 0.0, 1 + BESIDE, 1 + BESIDE) for life in dead]
    await run.judge(faults, poison={asked.name: len(dead)})
    return run


async def _keep(fleet: ChaosFleet, slot: Slot) -> None:
    while True:
        await until(lambda: not slot.now.alive, within_s=300)
        await fleet.start(slot)
