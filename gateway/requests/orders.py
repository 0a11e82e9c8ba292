"""What operators want of this gateway: every gateway hears it, and the one that has the request obeys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process.logging import Log
from wire import codec
from wire.errors import UndecodableMessage

if TYPE_CHECKING:
    from broker.interface import Broker, Listener
    from gateway.metrics import GatewayMetrics
    from gateway.requests.conversations import Conversations
    from wire.topics import Topics

log = Log("gateway")

ORDERS_WAITING_MAX = 1_000
"""Orders that may wait in this process; more are lost, and an operator repeats them."""


class Orders:
    """Hears them, and lets the conversations carry them out."""

    def __init__(self, broker: Broker, topics: Topics, conversations: Conversations, metrics: GatewayMetrics) -> None:
        self._broker = broker
        self._topics = topics
        self._conversations = conversations
        self._metrics = metrics
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Listen."""
        self._listener = await self._broker.listen(self._topics.orders, self._hear, waiting_max=ORDERS_WAITING_MAX)

    async def aclose(self) -> None:
        """Hear nothing more."""
        if self._listener is not None:
            await self._listener.aclose()

    def _hear(self, payload: bytes) -> None:
        try:
            order = codec.decode_order(payload)
        except UndecodableMessage as error:
            self._metrics.undecodable["orders"].inc()
            log.warning("An operator's order could not be read.", action="undecodable", why=error.message)
            return
        if self._conversations.cancel(order.request_id):
            log.info("An operator has cancelled a request.", action="cancelled", request_id=order.request_id)
