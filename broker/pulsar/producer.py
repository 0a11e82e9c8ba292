"""A producer that outlives the connections it publishes through."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import _pulsar

from broker.interface import PAYLOAD_BYTES_MAX, BrokerUnavailable, PayloadTooLarge
from broker.pulsar.failure import explain_send

if TYPE_CHECKING:
    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.client import PulsarClient

_POSTS_PER_RECEIPT = 32
_POSTED_BYTES_PER_RECEIPT = 64 * 1024


class _Lane:
    """What went through one inner producer and has no receipt yet."""

    __slots__ = ("bytes", "client", "count", "futures", "inner", "posted", "posted_bytes")

    def __init__(self, client: PulsarClient, inner: Any) -> None:
        self.client = client
        self.inner = inner
        self.count = 0
        self.bytes = 0
        self.posted = 0
        self.posted_bytes = 0
        self.futures: set[asyncio.Future[Any]] = set()


class PulsarProducer:
    """Publishes to one topic."""

    def __init__(self, broker: PulsarBroker, topic: str, gather_ms: int) -> None:
        self.topic = topic
        self.looks_lost = 0
        self._broker = broker
        self._window = broker.window
        self._gather_ms = gather_ms
        self._lane: _Lane | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the inner producer is attached to its topic."""
        return self._lane is not None and self._lane.inner.is_connected()

    async def join(self, client: PulsarClient) -> None:
        """Publish through ``client`` from here on; raises :class:`PulsarFailure`."""
        lane = self._lane
        if lane is not None:
            self._forget(lane)
            lane.inner.close_async(None)
        inner = await client.open_producer(self.topic, self._gather_ms)
        if self._closed:
            inner.close_async(None)
        else:
            self._lane = _Lane(client, inner)

    def give_up(self) -> None:
        """What waits for a receipt ends as unknown. The client may yet send it, so it stays charged."""
        if self._lane is not None:
            _end_unknown(self._lane)

    async def send(self, payload: bytes) -> None:
        size = len(payload)
        if size > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(f"The payload has {size} bytes, the limit is {PAYLOAD_BYTES_MAX}.")
        lane = self._lane
        if lane is None or self._closed or not self._broker.connected:
            what = f"This producer of {self.topic} is closed" if self._closed else f"{self.topic} cannot be reached"
            raise BrokerUnavailable(f"{what} at {self._broker.address}; the message was not sent.")
        self._window.check()
        self._charge(lane, 1, size)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lane.futures.add(future)
        inbox = lane.client.inbox
        lane.inner.send_async(_message(payload), partial(inbox.put, self._receipt, lane, 1, size, future))
        result = await future
        if result != _pulsar.Result.Ok:
            raise explain_send(result, self.topic)

    def post(self, payload: bytes) -> None:
        lane = self._lane
        size = len(payload)
        if lane is None or self._closed or not self._broker.connected:
            return
        if size > PAYLOAD_BYTES_MAX or self._window.full:
            return
        lane.posted += 1
        lane.posted_bytes += size
        callback = None
        # A receipt is a call from another thread into Python. One in a while is enough to keep the window
        # honest: what came before it in this lane has then arrived as well.
        if lane.posted >= _POSTS_PER_RECEIPT or lane.posted_bytes >= _POSTED_BYTES_PER_RECEIPT:
            count, total = lane.posted, lane.posted_bytes
            lane.posted = lane.posted_bytes = 0
            self._charge(lane, count, total)
            callback = partial(lane.client.inbox.put, self._receipt, lane, count, total, None)
        lane.inner.send_async(_message(payload), callback)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.members.discard(self)
        lane = self._lane
        if lane is None:
            return
        timeout_s = self._broker.limits.operation_timeout_s
        if self.connected:
            await lane.client.call(lane.inner.flush_async, timeout_s)
        await lane.client.call(lane.inner.close_async, timeout_s)
        self._forget(lane)

    def _forget(self, lane: _Lane) -> None:
        """What has no receipt yet will get none."""
        self._lane = None
        self._window.refund(lane.count, lane.bytes)
        lane.count = lane.bytes = 0
        _end_unknown(lane)

    def _charge(self, lane: _Lane, count: int, size: int) -> None:
        lane.count += count
        lane.bytes += size
        self._window.charge(count, size)

    def _receipt(
        self, lane: _Lane, count: int, size: int, future: asyncio.Future[Any] | None, result: Any, _: Any = None
    ) -> None:
        # A lane that was left has already been refunded as a whole.
        if lane is self._lane:
            lane.count -= count
            lane.bytes -= size
            self._window.refund(count, size)
        if future is not None:
            lane.futures.discard(future)
            if not future.done():
                future.set_result(result)


def _end_unknown(lane: _Lane) -> None:
    for future in lane.futures:
        if not future.done():
            future.set_result(_pulsar.Result.NotConnected)


def _message(payload: bytes) -> Any:
    builder = _pulsar.MessageBuilder()
    builder.content(payload)
    return builder.build()
