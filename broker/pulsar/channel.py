"""One connection to a broker that lives in the event loop: for what somebody waits for.

The client library reads and writes in threads of its own, so that each message costs two changes of threads, more than
all the rest of it takes. Only who prefetches (management, events, many to an entry) uses it all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from broker.interface import PAYLOAD_BYTES_MAX, Kind
from broker.pulsar.channel_members import ChannelConsumer, ChannelProducer, ChannelReader
from broker.pulsar.connection import Connection
from broker.pulsar.failure import PulsarFailure, Result
from broker.pulsar.frames import (
    PROTOCOL_VERSION,
    Command,
    Fields,
    frame,
    number,
    read_varint,
    refused,
    text,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from broker.pulsar.channel_members import PulledMessage
    from broker.pulsar.limits import PulsarLimits

Answer = TypeVar("Answer")
Member = ChannelProducer | ChannelConsumer | ChannelReader

_KINDS = {Kind.EXCLUSIVE: 0, Kind.SHARED: 1, Kind.FAILOVER: 2}
# Of these there are many, and a member of an enumeration is looked up slowly.
_MESSAGE, _SEND_RECEIPT = int(Command.MESSAGE), int(Command.SEND_RECEIPT)
_OK = Result.Ok
_SUPPORTS_AUTH_REFRESH = number(1, 1)
_TOKEN = b"token"


class Channel(Connection):
    """Made by a loop's ``create_connection``; usable after :meth:`welcome`, and until :attr:`lost`."""

    def __init__(
        self, limits: PulsarLimits, token: Callable[[], bytes | None], *, proxied_to: str | None, gathers: bool
    ) -> None:
        """``token`` is asked for each proof of who we are. ``proxied_to`` is the ``host:port`` of the broker where what
        is connected to is a proxy; for ``gathers`` see :class:`Connection`.
        """
        super().__init__(pending_bytes_max=limits.pending_bytes_max, gathers=gathers)
        self.payload_bytes_max = PAYLOAD_BYTES_MAX
        self._limits = limits
        self._token = token
        self._proxied_to = proxied_to
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._ids = count(1)
        self.silent_since: float | None = None
        """Loop time since which it gives no answer, as far as anybody asked."""
        self._answers: dict[int, asyncio.Future[Fields]] = {}
        self._openings: dict[int, asyncio.Future[Fields]] = {}
        """Of members that are being opened."""
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._producers: dict[int, ChannelProducer] = {}
        self._consumers: dict[int, ChannelConsumer | ChannelReader] = {}

    async def welcome(self) -> None:
        """Wait until the broker lets us in. Raises :class:`PulsarFailure` if it refuses, and :class:`EOFError`."""
        await self._welcome

    async def ping(self) -> None:
        """Return when the broker has dealt with all that was written before; raises :class:`PulsarFailure`."""
        if self.lost:
            raise PulsarFailure(Result.NotConnected)
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(pong)
        self.write(frame(Command.PING, b""))
        await self.answer(pong, self._limits.ping_timeout_s)

    async def look_up(self, topic: str, *, authoritative: bool) -> Fields:
        """A ``CommandLookupTopicResponse``: who serves the topic, or whom to ask."""
        known = text(1, topic.encode())
        return await self._ask(
            Command.LOOKUP, lambda request: known + number(2, request) + number(3, int(authoritative))
        )

    async def produce(
        self, topic: str, receipt: Callable[[int, Result], None], on_lost: Callable[[], None]
    ) -> ChannelProducer:
        """A producer; raises :class:`PulsarFailure`. ``receipt`` is called with the number of each message that the
        broker has, and ``on_lost`` when it is none any more."""
        producer = ChannelProducer(self, next(self._ids), receipt, on_lost)
        known = text(1, topic.encode()) + number(2, producer.id)
        self._producers[producer.id] = producer
        try:
            answer = await self._ask(
                Command.PRODUCER, lambda request: known + number(3, request) + number(9, 0), opens=producer.id
            )
        except BaseException:
            self._leave(Command.CLOSE_PRODUCER, self._producers, producer.id)
            raise
        if producer.id not in self._producers:
            raise PulsarFailure(Result.NotConnected)  # closed by the broker meanwhile
        producer.begin(answer.text(2))
        return producer

    async def consume(
        self,
        topic: str,
        subscription: str,
        kind: Kind,
        *,
        from_earliest: bool,
        take: Callable[[PulledMessage], None],
        on_lost: Callable[[], None],
    ) -> ChannelConsumer:
        """Join a subscription of a persistent topic; raises :class:`PulsarFailure`. Each permit brings one message."""
        consumer = ChannelConsumer(self, next(self._ids), take, on_lost)
        known = number(3, _KINDS[kind]) + number(13, int(from_earliest))
        async with self._attached(consumer):
            await self._subscribe(topic, subscription, consumer, known)
        return consumer

    async def read(
        self, topic: str, hear: Callable[[bytes], None], *, permits: int, on_lost: Callable[[], None]
    ) -> ChannelReader:
        """Hear a non-persistent topic from here on; raises :class:`PulsarFailure`.

        Its subscription is not durable: the broker forgets it with this connection, and the topic soon after. At most
        ``permits`` messages are on their way at once; the broker drops what there is no permit for.
        """
        reader = ChannelReader(self, next(self._ids), hear, permits, on_lost)
        async with self._attached(reader):
            known = number(3, _KINDS[Kind.EXCLUSIVE]) + number(8, 0)
            await self._subscribe(topic, f"reader-{uuid.uuid4().hex}", reader, known)
            reader.permit(permits)
            # Whatever comes before the permits do is dropped, and the broker tells nobody when they have come. What it
            # answers to a later question tells.
            await self.ping()
        return reader

    async def close_producer(self, producer: ChannelProducer) -> None:
        """Leave its topic when all is written; a broker that does not answer is not waited for for long."""
        if producer.id in self._producers:
            producer.attached = False
            try:
                await self._close(Command.CLOSE_PRODUCER, producer.id)
            finally:
                # Not before: until then receipts come.
                self._producers.pop(producer.id, None)

    async def close_consumer(self, consumer: ChannelConsumer | ChannelReader) -> None:
        """Leave its subscription."""
        if self._consumers.pop(consumer.id, None) is not None:
            consumer.attached = False
            await self._close(Command.CLOSE_CONSUMER, consumer.id)

    def dismiss(self, consumer: ChannelConsumer | ChannelReader) -> None:
        """End it without waiting, for its owner to join anew."""
        self._leave(Command.CLOSE_CONSUMER, self._consumers, consumer.id)
        consumer.lose()

    async def answer(self, future: asyncio.Future[Answer], timeout_s: float) -> Answer:
        """Wait for what the broker says; raises :class:`PulsarFailure` if it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.hear(future)
        except TimeoutError:
            raise PulsarFailure(Result.Timeout) from None

    async def aclose(self) -> None:
        """Write what waits, and end."""
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait({self._gone}, timeout=self._limits.ping_timeout_s)
            self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        try:
            self.write(frame(Command.CONNECT, self._introduction()))
        except PulsarFailure as failure:
            self._refuse(failure)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not isinstance(error, OSError):
            error = EOFError("the connection was closed without an answer")
        self._refuse(error)
        waiting: list[asyncio.Future[Any]] = [*self._answers.values(), *self._pongs]
        for future in waiting:
            if not future.done():
                future.set_exception(PulsarFailure(Result.NotConnected))
        members: list[Member] = [*self._producers.values(), *self._consumers.values()]
        self._producers.clear()
        self._consumers.clear()
        for member in members:
            member.lose()
        if not self._gone.done():
            self._gone.set_result(None)

    def _take(self, data: bytes, at: int, stop: int) -> None:
        begin = at + 4
        end = begin + int.from_bytes(data[at:begin], "big")
        # The first field of every command is its number.
        command = data[begin + 1]
        if command == _MESSAGE:
            _, at = read_varint(data, begin + 3)
            # The first field of this one is whose it is.
            id_, at = read_varint(data, at + 1)
            consumer = self._consumers.get(id_)
            if consumer is not None:
                consumer.take(data, at, end, stop)
        elif command == _SEND_RECEIPT:
            _, at = read_varint(data, begin + 3)
            id_, at = read_varint(data, at + 1)
            producer = self._producers.get(id_)
            if producer is not None:
                producer.receipt(read_varint(data, at + 1)[0], _OK)
        else:
            self._answer(command, Fields(data[begin:end]).inner(command))

    def _answer(self, command: int, fields: Fields) -> None:
        match command:
            case Command.CONNECTED:
                if size := fields.number(3):
                    self.payload_bytes_max = min(size, PAYLOAD_BYTES_MAX)
                if not self._welcome.done():
                    self._welcome.set_result(None)
            case Command.PING:
                self.write(frame(Command.PONG, b""))
            case Command.PONG:
                if self._pongs:
                    _settle(self._pongs.popleft(), None)
            case Command.SUCCESS | Command.PRODUCER_SUCCESS:
                _settle(self._answers.get(fields.number(1)), fields)
            case Command.LOOKUP_RESPONSE:
                _settle(self._answers.get(fields.number(4)), fields)
            case Command.ERROR:
                self._fail(fields)
            case Command.SEND_ERROR:
                if (producer := self._producers.get(fields.number(1))) is not None:
                    self._not_published(producer, fields)
            case Command.CLOSE_PRODUCER:
                self._end(fields.number(1), self._producers)
            case Command.CLOSE_CONSUMER:
                self._end(fields.number(1), self._consumers)
            case Command.AUTH_CHALLENGE:
                self._prove()

    def _not_published(self, producer: ChannelProducer, fields: Fields) -> None:
        result = refused(fields.number(3), "").result
        if result is Result.BrokerPersistenceError:
            # So it says of what comes while it moves a topic, too. Joined anew, the producer publishes once more what
            # has no receipt, as Pulsar's own clients do.
            self._leave(Command.CLOSE_PRODUCER, self._producers, producer.id)
            producer.lose()
        else:
            producer.receipt(fields.number(2), result)

    def _fail(self, fields: Fields) -> None:
        failure = refused(fields.number(2), fields.text(3))
        answer = self._answers.get(fields.number(1))
        if answer is None:
            self._refuse(failure)
        elif not answer.done():
            answer.set_exception(failure)

    def _prove(self) -> None:
        """The token is about to expire, and the broker asks for the next one."""
        try:
            token = self._token()
        except PulsarFailure:
            return  # the broker hangs up, and whoever connects again tells why
        proof = text(1, _TOKEN) + text(2, token or b"")
        self.write(frame(Command.AUTH_RESPONSE, text(2, proof) + number(3, PROTOCOL_VERSION)))

    def _introduction(self) -> bytes:
        words = text(1, b"workernode") + number(4, PROTOCOL_VERSION) + text(10, _SUPPORTS_AUTH_REFRESH)
        if self._proxied_to is not None:
            words += text(6, self._proxied_to.encode())
        token = self._token()
        if token is not None:
            words += text(3, token) + text(5, _TOKEN)
        return words

    def _refuse(self, error: Exception) -> None:
        if not self._welcome.done():
            self._welcome.set_exception(error)
            self._welcome.exception()  # whoever waited may have given up

    async def _ask(self, command: Command, body: Callable[[int], bytes], *, opens: int = 0) -> Fields:
        """``opens`` is the member that this opens, and that the broker may close instead."""
        if self.lost:
            raise PulsarFailure(Result.NotConnected)
        request = next(self._ids)
        answer: asyncio.Future[Fields] = self._loop.create_future()
        self._answers[request] = answer
        if opens:
            self._openings[opens] = answer
        self.write(frame(command, body(request)))
        try:
            return await self.answer(answer, self._limits.operation_timeout_s)
        finally:
            del self._answers[request]
            self._openings.pop(opens, None)

    @contextlib.asynccontextmanager
    async def _attached(self, consumer: ChannelConsumer | ChannelReader) -> AsyncIterator[None]:
        """Gets what comes for it while it is being opened, and only if that succeeds from then on."""
        self._consumers[consumer.id] = consumer
        try:
            yield
        except BaseException:
            self._leave(Command.CLOSE_CONSUMER, self._consumers, consumer.id)
            raise
        if consumer.id not in self._consumers:
            raise PulsarFailure(Result.NotConnected)  # closed by the broker meanwhile
        consumer.attached = True

    async def _subscribe(
        self, topic: str, subscription: str, consumer: ChannelConsumer | ChannelReader, how: bytes
    ) -> None:
        known = text(1, topic.encode()) + text(2, subscription.encode()) + how + number(4, consumer.id)
        await self._ask(Command.SUBSCRIBE, lambda request: known + number(5, request), opens=consumer.id)

    def _leave(self, command: Command, members: dict[int, Any], id_: int) -> None:
        """What was opened for somebody who is gone must not stay open."""
        if members.pop(id_, None) is not None:
            self.write(frame(command, number(1, id_) + number(2, next(self._ids))))

    async def _close(self, command: Command, id_: int) -> None:
        try:
            await self._ask(command, lambda request: number(1, id_) + number(2, request))
        except PulsarFailure:
            return  # it is over anyway

    def _end(self, id_: int, members: dict[int, Any]) -> None:
        opening = self._openings.get(id_)
        if opening is not None and not opening.done():
            opening.set_exception(PulsarFailure(Result.NotConnected))
        member: Member | None = members.pop(id_, None)
        if member is not None:
            member.lose()


def _settle(future: asyncio.Future[Answer] | None, value: Answer) -> None:
    if future is not None and not future.done():
        future.set_result(value)
