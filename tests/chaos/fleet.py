"""The fleet under test: one broker, its gateways, nodes and management as processes, the provider, and their traces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from tests.chaos.broker_admin import BrokerAdmin
from tests.chaos.ledger import LedgerReader
from tests.chaos.life import Life, Slot
from tests.chaos.oracle import Oracle
from tests.waiting import until
from wire.topics import Topics

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.pulsar_server import PulsarServer

SLOTS_PER_NODE = 24
SETTLE_S = 60.0


class ChaosFleet:
    """``async with ChaosFleet(server, directory) as fleet``; then add slots and start them."""

    def __init__(
        self, server: PulsarServer, directory: Path, *, pulsar_url: str | None = None, owns_broker: bool = False
    ) -> None:
        self.run = run = uuid.uuid4().hex[:8]
        self.server = server
        self.owns_broker = owns_broker
        """Whether nobody else uses the broker, so that its topics can be counted."""
        self.directory = directory
        self.model = f"model-{run}"
        self.key = f"sk-canary-{secrets.token_hex(12)}"
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.topics = Topics(results_name=f"results-{run}")
        self.admin = BrokerAdmin(server.admin_url, self.topics, self.model)
        self.ledger = LedgerReader(directory / "ledger.db")
        self.oracle = Oracle()
        self.slots: list[Slot] = []
        self._common = {
            "PULSAR_URL": pulsar_url or server.url,
            "RES_TOPIC_NAME": f"results-{run}",
            "MODEL_NAME": self.model,
        }

    async def __aenter__(self) -> ChaosFleet:
        await self.oracle.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for life in self.lives():
            life.kill()
        await self.oracle.__aexit__(kind, error, trace)

    def add(self, role: str, *, module: str = "fleet", **env: str) -> Slot:
        """A place for a role; nothing is started yet. The environment goes before what is usual."""
        number = sum(slot.role == role for slot in self.slots)
        usual = {
            "gateway": {"API_KEYS": f"chaos:{self.key}"},
            "node": {
                "NODE_TYPE": "remote",
                "API_URL": self.oracle.url,
                "UPSTREAM_MODEL": "upstream",
                "MAX_PROCESS_NUM": str(SLOTS_PER_NODE),
            },
            "management": {"DATABASE_URL": f"sqlite+aiosqlite:///{self.ledger.file}"},
        }[role]
        slot = Slot(role, f"{role}-{number}", {**self._common, **usual, **env}, module)
        self.slots.append(slot)
        return slot

    async def start(self, *slots: Slot, **env: str) -> None:
        """Begin the next life of each, and wait until they are ready."""
        lives = [slot.start(self.directory, **env) for slot in slots]
        await asyncio.gather(*(life.ready() for life in lives))

    async def known(self, life: Life) -> None:
        """Wait until a gateway knows the model."""
        path = f"/v1/models/{self.model}"

        async def is_known() -> bool:
            return f'"id":"{self.model}"' in await life.page(path, key=self.key)

        await until(is_known, within_s=30)

    def of(self, role: str) -> list[Slot]:
        """The slots of a role that were started."""
        return [slot for slot in self.slots if slot.role == role and slot.lives]

    def alive(self, role: str) -> list[Life]:
        """What runs of a role."""
        return [slot.now for slot in self.of(role) if slot.now.alive]

    def serving(self) -> list[Life]:
        """The gateways that can be asked."""
        return [life for life in self.alive("gateway") if life.baseline is not None]

    def lives(self) -> list[Life]:
        """Everything that was ever started."""
        return [life for slot in self.slots for life in slot.lives]

    async def settled(self, within_s: float = SETTLE_S) -> list[str]:
        """Wait until nothing is under way any more; what still is after ``within_s``, in sentences."""
        left: list[str] = []

        async def nothing_left() -> bool:
            left[:] = await self._under_way()
            return not left

        with contextlib.suppress(AssertionError):
            await until(nothing_left, within_s=within_s, every_s=0.2)
        return left

    async def _under_way(self) -> list[str]:
        left = [str(each) for each in await self.admin.left() if each]
        if left:
            left += [f"{node['name']} has {node['parked']} parked" for node in await self._nodes() if node["parked"]]
        for life in self.alive("gateway"):
            page = await life.page("/metrics", key=self.key)
            for state in ("open", "unsettled"):
                if (count := _figure(page, f"gateway_requests_{state}")) != 0:
                    left.append(f"{life.name} has {count} {state} requests")
        for life in self.alive("node"):
            with contextlib.suppress(json.JSONDecodeError):
                if busy := json.loads(await life.page("/readyz")).get("busy"):
                    left.append(f"{life.name} has {busy} busy slots")
        return left

    async def _nodes(self) -> list[dict[str, Any]]:
        """What management hears of the nodes that are there."""
        for life in self.alive("management"):
            with contextlib.suppress(json.JSONDecodeError):
                found = json.loads(await life.page("/api/v1/nodes?gone=0"))
                return [{**node, "name": node["node"]} for node in found["data"]]
        return []


def _figure(page: str, name: str) -> float:
    """The value of a figure without labels; -1 if it is not there."""
    for line in page.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return -1
