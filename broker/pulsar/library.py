"""The pulsar-client library, for what is bulk; a process that has no bulk neither loads it nor starts its threads."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.log_fields import fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.pulsar.client import PulsarClient

log = logging.getLogger(__name__)


class Library:
    """Holds the client in use, and replaces one that has fallen silent.

    The library reconnects by itself, but it trusts a connection that fell silent without being closed for a minute.
    """

    def __init__(self, new_client: Callable[[], PulsarClient]) -> None:
        self.client = new_client()
        """The client in use. What was opened through an earlier one is to be opened anew."""
        self._new_client = new_client
        self._retiring: set[asyncio.Task[None]] = set()

    async def answers(self, topic: str) -> bool:
        """Whether the broker answers a question about ``topic`` now, of this client or of one that replaces it."""
        if await self.client.answers(topic):
            return True
        old, fresh = self.client, self._new_client()
        try:
            # The old one has a second chance meanwhile: a broker or a process that only paused answers both,
            # and then nothing is torn down.
            fresh_answers, old_answers = await asyncio.gather(fresh.answers(topic), old.answers(topic))
        except BaseException:
            self._retire(fresh)
            raise
        if old_answers or not fresh_answers:
            self._retire(fresh)
            return old_answers
        self.client = fresh
        self._retire(old)
        log.warning("The connection of the client library had fallen silent.", extra=fields("library_client_replaced"))
        return True

    async def aclose(self) -> None:
        """Close all connections and stop all threads."""
        self._retire(self.client)
        # A callback of the client that finds its loop gone has nowhere to go, so all of them end first.
        await asyncio.wait(self._retiring)

    def _retire(self, client: PulsarClient) -> None:
        task = asyncio.create_task(client.aclose(), name="pulsar-client-close")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
