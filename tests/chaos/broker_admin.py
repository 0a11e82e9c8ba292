"""What the broker itself says: backlogs, subscriptions, topics. Through its admin REST interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp

from wire.topics import LEDGER, WORKERS, Topics

NAMESPACE = "public/default"


@dataclass(frozen=True)
class Left:
    """What a subscription still has to give, and what was given and not acknowledged."""

    topic: str
    backlog: int
    unacked: int

    def __bool__(self) -> bool:
        return bool(self.backlog or self.unacked)


class BrokerAdmin:
    """Asks one broker."""

    def __init__(self, admin_url: str, topics: Topics, model: str) -> None:
        self._url = f"{admin_url}/admin/v2"
        self._watched = ((topics.requests(model), WORKERS), (topics.results, LEDGER))

    @property
    def request_topic(self) -> str:
        return self._watched[0][0]

    async def left(self) -> list[Left]:
        """Of the request topic and of the results topic."""
        return [await self._left(topic, subscription) for topic, subscription in self._watched]

    async def results_backlog(self) -> int:
        """Events that management has not acknowledged."""
        topic, subscription = self._watched[1]
        return (await self._left(topic, subscription)).backlog

    async def topics(self) -> list[str]:
        """All topics of the namespace, persistent and not."""
        found: list[str] = []
        for domain in ("persistent", "non-persistent"):
            found += await self._get(f"{domain}/{NAMESPACE}") or []
        return found

    async def subscriptions(self, topic: str) -> list[str]:
        """The subscriptions of a topic."""
        stats = await self._stats(topic)
        return list(stats.get("subscriptions", {}))

    async def _left(self, topic: str, subscription: str) -> Left:
        stats = (await self._stats(topic)).get("subscriptions", {}).get(subscription, {})
        return Left(topic, stats.get("msgBacklog", 0), stats.get("unackedMessages", 0))

    async def _stats(self, topic: str) -> dict[str, Any]:
        found = await self._get(f"{topic.replace('://', '/')}/stats")
        return found if isinstance(found, dict) else {}

    async def _get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}/{path}") as response:
            return await response.json() if response.status == 200 else None
