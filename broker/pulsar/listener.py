"""A listener that outlives the connections it hears through."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from broker.log_fields import fields
from broker.pulsar.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.channel_members import ChannelReader

log = logging.getLogger(__name__)


class PulsarListener:
    """Hears one non-persistent topic, in the event loop."""

    returns_by_itself = False

    def __init__(
        self, broker: PulsarBroker, topic: str, hear: Callable[[bytes], None], waiting_max: int, *, gathers: bool
    ) -> None:
        self.topic = topic
        self.looks_lost = 0
        self._broker = broker
        self._hear = hear
        self._waiting_max = waiting_max
        self._gathers = gathers
        self._inner: ChannelReader | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether it is attached to its topic."""
        return self._inner is not None and self._inner.attached

    async def join(self) -> None:
        """Hear from here on; raises :class:`broker.pulsar.failure.PulsarFailure`."""
        if self.connected:
            return
        inner = await patiently(self._open, self._broker.limits)
        if self._closed:
            await inner.aclose()
        else:
            self._inner = inner

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.members.discard(self)
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.aclose()

    async def _open(self) -> ChannelReader:
        channel = await self._broker.channels.channel(self.topic, gathers=self._gathers)
        return await channel.read(self.topic, self._arrived, permits=self._waiting_max, on_lost=self._broker.hurry)

    def _arrived(self, payload: bytes) -> None:
        if self._closed:
            return
        try:
            self._hear(payload)
        except Exception:
            # It is called by the connection, which is that of others too.
            log.exception("A message could not be heard.", extra=fields("not_heard", topic=self.topic))
