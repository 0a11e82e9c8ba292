"""The other gateways: tells them what is open here, and hears what is open there."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from process.identity import now_ms
from process.lifecycle import Tasks
from process.logging import Log
from wire import codec
from wire.backlog import BACKLOG_EVERY_S
from wire.errors import UndecodableMessage

if TYPE_CHECKING:
    from broker.interface import Broker, Listener, Producer
    from gateway.metrics import GatewayMetrics
    from gateway.models.register import Models
    from gateway.queue.backlog import Backlog
    from wire.topics import Topics

log = Log("gateway")

REPORTS_APART_S = 0.5
"""A gateway reports changes at most this often: so old may be what others know of it."""
REPORTS_WAITING_MAX = 1000
"""Reports that may wait in this process; more are lost, and come again."""


class Neighbours:
    """Feeds :class:`gateway.queue.backlog.Backlog`, and reports from it."""

    def __init__(
        self, gateway: str, broker: Broker, topics: Topics, models: Models, backlog: Backlog, metrics: GatewayMetrics
    ) -> None:
        self._gateway = gateway
        self._broker = broker
        self._topics = topics
        self._models = models
        self._backlog = backlog
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._tasks = Tasks(log)
        self._listener: Listener | None = None
        self._producer: Producer | None = None

    async def start(self) -> None:
        """Listen, and report for the first time, which makes the others say what they have. May be called again if it
        failed.
        """
        if self._listener is None:
            self._listener = await self._broker.listen(
                self._topics.backlog, self._hear, waiting_max=REPORTS_WAITING_MAX
            )
        self._producer = await self._broker.producer(self._topics.backlog)
        self._backlog.on_change = self._changed.set
        self._tasks.keep(self._expire, "expire gateways")
        self._tasks.keep(partial(self._tell, self._producer), "tell backlog")

    async def aclose(self) -> None:
        """Tell what is left, so that nobody has to wait for the silence, and stop."""
        if self._listener is not None:
            await self._listener.aclose()
        await self._tasks.aclose()
        if self._producer is not None:
            self._report(self._producer)
            await self._producer.aclose()

    async def _tell(self, producer: Producer) -> None:
        while True:
            self._changed.clear()
            self._report(producer)
            await asyncio.sleep(REPORTS_APART_S)
            try:
                async with asyncio.timeout(BACKLOG_EVERY_S - REPORTS_APART_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _report(self, producer: Producer) -> None:
        # One that is lost is made good by the next: each tells all that is open.
        producer.post(codec.encode(self._backlog.report(now_ms())))

    def _hear(self, payload: bytes) -> None:
        try:
            report = codec.decode_backlog(payload)
        except UndecodableMessage as error:
            self._metrics.undecodable["backlog"].inc()
            log.warning("A gateway's report could not be read.", action="undecodable", why=error.message)
            return
        if self._backlog.heard(report, self._models, asyncio.get_running_loop().time()):
            self._changed.set()  # it has just come and knows nothing of us

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(BACKLOG_EVERY_S)
            self._backlog.forget_the_silent(self._models, asyncio.get_running_loop().time())
