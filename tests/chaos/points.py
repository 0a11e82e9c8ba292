"""Crash points: every named place in the code, found by reading it, and what happens when a process dies there."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from process.crash import EXIT_CODE
from tests.chaos.fault import Fault
from tests.chaos.fleet import SLOTS_PER_NODE
from tests.chaos.scenarios import bench
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.asked import Asked
    from tests.chaos.checker import Finding
    from tests.chaos.fault import Kind
    from tests.chaos.fleet import ChaosFleet
    from tests.chaos.life import Life, Slot
    from tests.chaos.scenarios import Bench

ROOT = Path(__file__).parent.parent.parent
ROLES = {"workernode": "node", "gateway": "gateway", "management": "management"}
REQUESTS = 12
PASSES = {"after_piece": 12, "after_show": 5, "before_commit": 2, "after_commit_before_ack": 2, "after_ack": 2}
"""At which pass the process dies, where it is not :data:`USUAL_PASS`: late enough for something to be under way."""
USUAL_PASS = 3
DEATH_WAIT_S = 30.0


def points() -> list[tuple[str, str]]:
    """Role and name of every ``crash.point("name")`` in the code."""
    found: list[tuple[str, str]] = []
    for package, role in ROLES.items():
        for file in sorted((ROOT / package).rglob("*.py")):
            found += [(role, name) for name in _points_of(file)]
    return found


def _points_of(file: Path) -> list[str]:
    return [
        str(node.args[0].value)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) == "crash.point"
        and isinstance(node.args[0], ast.Constant)
    ]


async def all_points(fleet: ChaosFleet, seed: int, say: Callable[[str], None]) -> Bench:
    """One after the other."""
    standing = PointsFleet(fleet, seed)
    await standing.start()
    for role, name in points():
        findings = await standing.crash_at(role, name)
        say(f"{role} {name}: {sum(len(each.violations) for each in findings)} violations")
    return standing.bench


class PointsFleet:
    """One standing fleet for all points: only the victim is started anew for each."""

    def __init__(self, fleet: ChaosFleet, seed: int) -> None:
        self.fleet = fleet
        self.bench = bench(fleet, seed)
        self._standing = [fleet.add(role) for role in ("management", "gateway", "node")]
        self._management = self._standing[0]
        self._victims: dict[str, Slot] = {"management": self._management}
        for role in ("gateway", "node"):
            self._victims[role] = fleet.add(role)

    async def start(self) -> None:
        """What survives every crash."""
        await self.fleet.start(*self._standing)
        await self.fleet.known(self.fleet.alive("gateway")[0])

    async def crash_at(self, role: str, name: str) -> list[Finding]:
        """Let a process of this role die there with work in flight, repair, and judge."""
        passes = PASSES.get(name, USUAL_PASS)
        victim = await self._victim(role, f"{name}:{passes}")
        tasks = await self._requests(role, victim)
        await until(lambda: not victim.alive, within_s=DEATH_WAIT_S)
        assert victim.exit_code == EXIT_CODE, f"{victim} ended with {victim.exit_code}"
        fault = self._fault(role, victim)
        if role == "management":
            await self.fleet.start(self._management)
        await asyncio.gather(*tasks)
        return await self.bench.judge([fault])

    async def _victim(self, role: str, point: str) -> Life:
        slot = self._victims[role]
        if role == "management":
            await slot.now.stop()
        await self.fleet.start(slot, CRASH_POINT=point)
        if role == "gateway":
            await self.fleet.known(slot.now)
        return slot.now

    async def _requests(self, role: str, victim: Life) -> list[asyncio.Task[Asked]]:
        load = self.bench.load
        standing = self.fleet.of("gateway")[0].now
        tasks = await load.send(REQUESTS, victim if role == "gateway" else standing)
        return [*tasks, *(await load.send(REQUESTS // 2, standing))]

    def _fault(self, role: str, victim: Life) -> Fault:
        executions = self.fleet.oracle.executions.values()
        begun = sum(any(each.life == victim.name for each in one) for one in executions)
        assert victim.died_at is not None
        # Whoever passes a point has a request or an event in hand.
        in_flight = max(1, begun if role == "node" else len(self.bench.load.open()))
        kind: Kind = "node" if role == "node" else "gateway" if role == "gateway" else "management"
        held = min(len(self.bench.load.asked), SLOTS_PER_NODE) if role == "node" else 0
        return Fault(kind, victim.died_at, in_flight, held)
