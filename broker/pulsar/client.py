"""One client of the pulsar-client library, with its calls as coroutines that end in time and lose nothing."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import _pulsar

from broker.interface import Kind
from broker.log_fields import fields
from broker.pulsar.failure import SILENCE, PulsarFailure, Result
from broker.pulsar.inbox import Inbox
from broker.pulsar.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.pulsar.credential import Credential
    from broker.pulsar.limits import PulsarLimits

log = logging.getLogger(__name__)

NACK_DELAY_MS = 100
"""The least the client takes."""

_TYPES = {
    Kind.SHARED: _pulsar.ConsumerType.Shared,
    Kind.EXCLUSIVE: _pulsar.ConsumerType.Exclusive,
    Kind.FAILOVER: _pulsar.ConsumerType.Failover,
}


class PulsarClient:
    """A client with its own threads and connections. To be made in the process that uses it, after any fork."""

    def __init__(self, url: str, limits: PulsarLimits, credential: Credential) -> None:
        self._limits = limits
        self.inbox = Inbox(asyncio.get_running_loop())
        conf = _pulsar.ClientConfiguration()
        conf.operation_timeout_seconds(limits.operation_timeout_s)
        conf.connection_timeout(int(limits.connect_timeout_s * 1000))
        conf.stats_interval_in_seconds(0)
        # A Python logger is called from the client's threads and can hang the interpreter at its exit; the
        # default one writes a line for each connection to standard output, where a command's result belongs.
        # What matters of it reaches our own log through the errors.
        conf.set_file_logger(_pulsar.LoggerLevel.Warn, limits.client_log)
        conf.tls_trust_certs_file_path(credential.authorities)
        conf.tls_allow_insecure_connection(False)
        # Off by default: any certificate of a trusted authority would do for any host.
        conf.tls_validate_hostname(True)
        if credential.shows_token:
            # The library asks the callable for each connection, so that a token may rotate.
            conf.authentication(_pulsar.AuthenticationToken.create(_steady(credential)))
        self._inner = _pulsar.Client(url, conf)

    async def answers(self, topic: str) -> bool:
        """Whether a broker answers now, be it with a no."""
        try:
            await self._ask_result(
                partial(self._inner.get_topic_partitions_async, topic), timeout_s=self._limits.ping_timeout_s
            )
        except PulsarFailure as failure:
            return failure.result not in SILENCE
        return True

    async def open_consumer(
        self, topic: str, subscription: str, kind: Kind, *, queue: int, from_earliest: bool = False
    ) -> Any:
        """An inner consumer with a queue of so many messages; raises :class:`PulsarFailure`.

        The ack timeout stays off: slow is not lost.
        """
        conf = _pulsar.ConsumerConfiguration()
        conf.consumer_type(_TYPES[kind])
        # The default of 1000 lets one member hoard the backlog.
        conf.receiver_queue_size(queue)
        conf.negative_ack_redelivery_delay_ms(NACK_DELAY_MS)
        position = _pulsar.InitialPosition.Earliest if from_earliest else _pulsar.InitialPosition.Latest
        conf.subscription_initial_position(position)
        return await self._open(partial(self._inner.subscribe_async_v2, topic, subscription, conf))

    async def call(self, begin: Callable[[Callable[..., None]], None], timeout_s: float) -> None:
        """Run a call whose result nobody needs (flush, close), for as long as ``timeout_s``."""
        try:
            await self._ask_result(begin, timeout_s=timeout_s)
        except PulsarFailure:
            return

    async def aclose(self) -> None:
        """Close the connections and stop the threads. Must end before the loop does."""
        await self.call(self._inner.close_async, self._limits.operation_timeout_s + 1.0)
        # Closing waits for answers of the broker and gives up without them; this stops what is left.
        await asyncio.to_thread(self._inner.shutdown)

    async def _open(self, begin: Callable[[Callable[..., None]], None]) -> Any:
        timeout_s = self._limits.operation_timeout_s + 1.0
        values = await patiently(lambda: self._ask(begin, timeout_s=timeout_s), self._limits)
        return values[0]

    async def _ask_result(self, begin: Callable[[Callable[..., None]], None], *, timeout_s: float) -> None:
        values = await self._ask(begin, timeout_s=timeout_s)
        if values[0] != _pulsar.Result.Ok:
            raise _failure(values[0])

    async def _ask(self, begin: Callable[[Callable[..., None]], None], *, timeout_s: float) -> tuple[Any, ...]:
        future: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        begin(partial(self.inbox.put, _settle, future))
        try:
            await asyncio.wait({future}, timeout=timeout_s)
        except asyncio.CancelledError:
            if future.done():
                _dispose(future.result())
            raise
        finally:
            if not future.done():
                future.cancel()
        if future.cancelled():
            raise PulsarFailure(Result.Timeout)
        values = future.result()
        if isinstance(values[0], _pulsar.Error):
            raise _failure(values[0].error, values[0].message)
        return values


def _failure(result: Any, message: str = "") -> PulsarFailure:
    known = Result.__members__.get(result.name)
    return PulsarFailure(known, message) if known else PulsarFailure(Result.UnknownError, message or result.name)


def _steady(credential: Credential) -> Callable[[], str]:
    """Gives the token of now, and the last one again when it cannot be read.

    It is called from a thread of C++, and an exception there would end the process.
    """
    last = ""

    def read() -> str:
        nonlocal last
        try:
            last = (credential.token() or b"").decode()
        except PulsarFailure:
            log.warning("The token could not be read, the last one is used.", extra=fields("token_unreadable"))
        return last

    return read


def _settle(future: asyncio.Future[tuple[Any, ...]], *values: Any) -> None:
    if future.done():
        _dispose(values)
    else:
        future.set_result(values)


def _dispose(values: tuple[Any, ...]) -> None:
    """Close what was opened for somebody who is gone: a consumer left open would take messages for nobody."""
    for value in values:
        if isinstance(value, _pulsar.Consumer):
            value.close_async(None)
