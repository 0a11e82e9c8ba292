"""Looks at engine and machine every second, and lets the node's slots follow."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from process.logging import Log
from workernode.local.presets import gpus_of
from workernode.local.resources import MemoryUse, Resources
from workernode.local.slots import Load, Slots

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from workernode.local.engine import LocalEngine
    from workernode.local.supervisor import Life
    from workernode.node import Node
    from workernode.settings import NodeSettings

log = Log("node.engine")

LOOK_EVERY_S = 1.0


class SlotKeeper:
    """Of one node and its local engine."""

    def __init__(self, engine: LocalEngine, node: Node, registry: CollectorRegistry, settings: NodeSettings) -> None:
        self._engine = engine
        self._node = node
        self._slots = Slots(engine.slots_max, settings.first_token_target_s)
        self._resources = Resources(settings.host_memory_max_gib, gpus_of(settings))
        self._load = Load(busy=0)
        self._life: Life | None = None
        self._restarts = Counter(
            "workernode_engine_restarts", "How often the engine was started again.", registry=registry
        )
        self._restarts_seen = 0
        self._shrunk = Counter("workernode_slots_shrunk", "Times that slots were taken away.", registry=registry)
        _show(registry, self)

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.to_thread(self._resources.open)
        self._node.resize(self._slots.count)
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                self._move(await asyncio.to_thread(self._resources.use))
        finally:
            self._resources.close()

    @property
    def load(self) -> Load:
        """What was seen last."""
        return self._load

    def _move(self, memory: MemoryUse) -> None:
        life = self._engine.life
        self._restarts.inc(self._engine.restarts - self._restarts_seen)
        self._restarts_seen = self._engine.restarts
        if life is not self._life:
            self._life = life
            self._slots.begin_anew()
        if life is None:
            self._load = Load(self._node.busy, gpu_memory_use=memory.gpu, host_memory_use=memory.host)
            return  # nothing that is seen now is the requests' doing
        figures = life.figures
        self._load = Load(
            self._node.busy,
            figures.waiting,
            figures.kv_cache_use,
            self._engine.first_token_s(),
            memory.gpu,
            memory.host,
        )
        before, after = self._slots.count, self._slots.tick(self._load)
        if after < before:
            self._shrunk.inc()
            log.warning(
                "The node takes fewer requests at once.", action="slots_shrunk", slots=after, why=self._slots.why
            )
        elif after > before:
            log.debug("The node takes more requests at once.", action="slots_grown", slots=after)
        self._node.resize(after)


def _show(registry: CollectorRegistry, keeper: SlotKeeper) -> None:
    """What the slots follow, for Prometheus; NaN where nobody can tell."""
    shown = (
        ("engine_waiting", "Requests that wait in the engine.", "waiting"),
        ("kv_cache_used_ratio", "Share of the engine's KV cache in use.", "kv_cache_use"),
        ("gpu_memory_used_ratio", "Share of the fullest GPU's memory in use.", "gpu_memory_use"),
        ("host_memory_used_ratio", "Share of the host's memory in use, of what bounds it most.", "host_memory_use"),
        ("engine_first_token_seconds", "Median time to the engine's first token, in the last second.", "first_token_s"),
    )
    for name, text, source in shown:

        def value(source: str = source) -> float:
            found = getattr(keeper.load, source)
            return math.nan if found is None else found

        Gauge(f"workernode_{name}", text, registry=registry).set_function(value)
