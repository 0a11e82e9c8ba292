"""Control runs: a role with one defence switched off, and the fault that this defence is for. The judge must see it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.chaos.fault import Fault
from tests.chaos.scenarios import Bench, bench
from tests.waiting import until

if TYPE_CHECKING:
    from tests.chaos.checker import Finding
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.life import Life

REQUESTS = 8
SEEN_CHARS = 12


async def early_ack(fleet: ChaosFleet, seed: int) -> list[Finding]:
    """The node acknowledges before it publishes the charge, and is killed between."""
    run = bench(fleet, seed)
    node = fleet.add("node", module="tests.chaos.sabotage.early_ack")
    gateway = await _started(fleet, node.role, node=node)
    await asyncio.gather(*await run.load.send(REQUESTS, gateway))

    async def acknowledged() -> bool:
        return not any(await fleet.admin.left())

    await until(acknowledged, within_s=20)
    node.now.kill()
    return await run.judge([Fault("node", node.now.died_at or 0.0, 1)])


async def mixing(fleet: ChaosFleet, seed: int) -> list[Finding]:
    """The gateway does not compare the text of a second attempt, whose node takes over in the middle of a stream."""
    return await _killed_in_the_middle(fleet, seed, "tests.chaos.sabotage.mixing")


async def cheerful(fleet: ChaosFleet, seed: int) -> list[Finding]:
    """The gateway says ``[DONE]`` after an error, and a stream breaks that no other node can continue."""
    return await _killed_in_the_middle(fleet, seed, "tests.chaos.sabotage.cheerful", "diverge")


async def no_unique_id(fleet: ChaosFleet, seed: int) -> list[Finding]:
    """The ledger notices no repetition, and dies between commit and acknowledgement."""
    run = bench(fleet, seed)
    management = fleet.add("management", module="tests.chaos.sabotage.no_unique_id")
    await fleet.start(management, CRASH_POINT_OF_CHARGES="after_commit_before_ack:1")
    node, gateway = fleet.add("node"), fleet.add("gateway")
    await fleet.start(node, gateway)
    await fleet.known(gateway.now)
    tasks = await run.load.send(REQUESTS, gateway.now)
    died = management.now
    await until(lambda: not died.alive, within_s=30)
    await fleet.start(management)
    await asyncio.gather(*tasks)
    return await run.judge([Fault("management", died.died_at or 0.0, 1)])


async def _killed_in_the_middle(fleet: ChaosFleet, seed: int, module: str, *words: str) -> list[Finding]:
    run = bench(fleet, seed)
    victim = fleet.add("node")
    gateway = await _started(fleet, "gateway", node=victim, module=module)
    tasks = [asyncio.create_task(run.load.alone(gateway, _long(run, number, *words))) for number in range(1, 5)]
    await until(lambda: all(len(each.text) > SEEN_CHARS for each in run.load.asked), within_s=20)
    await fleet.start(fleet.add("node"))
    in_flight = len(run.load.open())
    victim.now.kill()
    await asyncio.gather(*tasks)
    return await run.judge([Fault("node", victim.now.died_at or 0.0, in_flight, in_flight)])


async def _started(fleet: ChaosFleet, sabotaged: str, *, node: Any, module: str = "fleet") -> Life:
    gateway = fleet.add("gateway", module=module if sabotaged == "gateway" else "fleet")
    await fleet.start(fleet.add("management"), gateway, node)
    await fleet.known(gateway.now)
    return gateway.now


def _long(run: Bench, number: int, *words: str) -> dict[str, Any]:
    prompt = " ".join([f"r{number} tokens=120 delay-between=0.05", *words, run.fleet.canary])
    return {"model": run.fleet.model, "messages": [{"role": "user", "content": prompt}], "stream": True}
