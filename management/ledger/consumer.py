"""The consumer of the results topic: batch, one transaction, and only then the acknowledgements."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from broker.interface import BrokerError, Kind
from management.ledger.inbox import Inbox
from management.ledger.journal import latest_of, read
from management.persistence import REOPEN_S, Persistence, Stopping
from process import crash
from process.logging import Log
from wire.topics import LEDGER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from broker.interface import Broker, Consumer
    from management.ledger.journal import Entry, Written
    from management.metrics import Metrics
    from management.settings import ManagementSettings

    Write = Callable[[Sequence[Entry]], Awaitable[Written]]

log = Log("management")


class Ledger:
    """Carries the events of the results topic into the database.

    ``write`` writes a batch and commits it, or raises and has written nothing.
    """

    def __init__(self, settings: ManagementSettings, write: Write, persistence: Persistence, metrics: Metrics) -> None:
        self._settings = settings
        self._write = write
        self._persistence = persistence
        self._metrics = metrics

    async def run(self, broker: Broker, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set. The batch in hand is then finished, or stays in the topic without a database."""
        try:
            while not stop.is_set():
                await self._session(broker, stop)
        except Stopping:
            return

    async def _session(self, broker: Broker, stop: asyncio.Event) -> None:
        settings = self._settings
        consumer = await self._persistence.until_done(
            "ledger",
            "The results topic cannot be read at the moment.",
            lambda: broker.consumer(
                settings.topics.results,
                LEDGER,
                Kind.FAILOVER,
                prefetch=settings.ledger_prefetch_events,
                from_earliest=True,
            ),
        )
        inbox = Inbox(consumer, events_max=settings.ledger_batch_events_max, bytes_max=settings.ledger_batch_bytes_max)
        watch = asyncio.get_running_loop().create_task(_hurry_when_set(inbox, stop))
        try:
            while not stop.is_set():
                await self._settle_batch(consumer, inbox)
        except BrokerError as error:
            # What was not acknowledged comes again to the next consumer, and what was stored counts as a duplicate.
            log.warning("The results topic was closed under the ledger.", action="ledger_reopens", reason=error)
        finally:
            watch.cancel()
            await inbox.aclose()
        await self._persistence.pause(REOPEN_S)

    async def _settle_batch(self, consumer: Consumer, inbox: Inbox) -> None:
        batch = await inbox.batch(self._settings.ledger_batch_ms_max / 1000)
        if not batch:
            return
        entries = [read(delivery.payload) for delivery in batch]
        self._metrics.batch_taken(latest_of(entries))
        written = await self._persistence.until_done(
            "database", "The database cannot be written at the moment.", lambda: self._timed_write(entries)
        )
        crash.point("after_commit_before_ack")
        for delivery in batch:
            consumer.ack(delivery)
        crash.point("after_ack")
        self._metrics.batch_written(len(batch), written)
        if written.quarantined:
            log.warning(
                "Messages that are no events went into quarantine.",
                action="quarantined",
                count=written.quarantined.total(),
                reasons=",".join(sorted(written.quarantined)),
            )
        for crossing in written.crossings:
            log.warning(
                "A budget is spent." if crossing.state == "exhausted" else "A budget is near its end.",
                action=f"budget_{crossing.state}",
                budget=crossing.budget.id,
            )
        if written.conflicting:
            log.error(
                "Events were told again with another content: the first one counts.",
                action="conflicting",
                count=written.conflicting,
            )

    async def _timed_write(self, entries: list[Entry]) -> Written:
        began = time.perf_counter()
        crash.point("before_commit")
        written = await self._write(entries)
        self._metrics.commit_seconds.observe(time.perf_counter() - began)
        return written


async def _hurry_when_set(inbox: Inbox, stop: asyncio.Event) -> None:
    await stop.wait()
    inbox.hurry()
