"""The gateway's side of the links: one :class:`Line` per node incarnation, and the topic they all share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from broker.interface import BrokerError
from process.identity import now_ms
from process.lifecycle import Tasks
from process.logging import Log
from wire import codec
from wire.control import Accepted, Acked, ControlMessage, Settle
from wire.errors import InvalidName, UndecodableMessage
from wire.link import ACK_WITHIN_S, MESSAGE_BYTES_MAX, LinkReceiver
from wire.piece import Alive, Content, Counted, Echo, Started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import msgspec

    from broker.interface import Broker, Listener, Producer
    from gateway.metrics import GatewayMetrics
    from wire.control import Word
    from wire.piece import AttemptFrame, LinkMessage
    from wire.topics import Topics

log = Log("gateway")

LINK_WAITING_MAX = 20_000
"""Messages that may wait in this process: a link drops what finds no room, and resending costs more than waiting."""
LINE_FORGOTTEN_S = 120.0
"""After this long a silent node is dead, or has closed its side of the line; its topic can be forgotten as well."""
WORDS_WAITING_MAX = 10_000
"""Words that may wait for a control topic to open. Above, the oldest go: nodes ask again."""
GATHER_S = 0.005
"""While a line is busy, words that no client waits for wait this long for others."""


class FrameTaker(Protocol):
    """Who takes the frames."""

    def frame(self, node: str, frame: AttemptFrame, *, repeated: bool) -> None:
        """A frame, in order. ``repeated``: it was heard before, so its sender may have missed our word about it."""


class Line:
    """What this gateway knows of one node's link, and says to that node."""

    def __init__(self, gateway: str, node: str, broker: Broker, topics: Topics, tasks: Tasks) -> None:
        self.node = node
        self.opened_ms = 0
        self.receiver = LinkReceiver()
        self._gateway = gateway
        self._broker = broker
        self._topic = topics.control(node)
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._producer: Producer | None = None
        self._opening = self._closed = False
        self._opened = asyncio.Event()
        self._words: list[Word] = []
        self._owes_ack = False
        self._flush: asyncio.Handle | None = None
        self._flush_due = 0.0
        self._flushed_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Line of {self.node} {self.receiver!r} words={len(self._words)}>"

    def say(self, word: Word) -> None:
        """Say a word at the end of this turn of the loop, together with the acknowledgement that is due.

        One about an end, for which only a slot waits, may join others within :data:`GATHER_S` while the line is busy.
        """
        if len(self._words) >= WORDS_WAITING_MAX:
            del self._words[0]
        self._words.append(word)
        self._flush_by(self._flushed_at + GATHER_S if isinstance(word, Accepted | Settle) else 0.0)

    async def say_alone(self, word: Word) -> None:
        """Say a large word once the node can be spoken to, in a message of its own: no other is lost with it."""
        if self._producer is None:
            self._flush_by(0.0)
            await self._opened.wait()
        self._post([word])

    def owe_ack(self, *, at_once: bool) -> None:
        """Acknowledge what has arrived: now, or within :data:`wire.link.ACK_WITHIN_S`."""
        self._owes_ack = True
        self._flush_by(0.0 if at_once else self._loop.time() + ACK_WITHIN_S)

    async def aclose(self) -> None:
        """Stop the timer and leave the topic."""
        self._closed = True
        if self._flush is not None:
            self._flush.cancel()
        if self._producer is not None:
            await self._producer.aclose()

    def _flush_by(self, due: float) -> None:
        """Send at this time of the loop, or sooner; one that has passed is the end of this turn."""
        if self._flush is not None:
            if self._flush_due <= due:
                return
            self._flush.cancel()
        self._flush_due = due
        soon = due <= self._loop.time()
        self._flush = self._loop.call_soon(self._send) if soon else self._loop.call_at(due, self._send)

    def _send(self) -> None:
        self._flush = None
        if self._producer is None:
            if not self._opening:
                self._opening = True
                self._tasks.start(self._open(), f"control of {self.node}")
            return
        words = self._words
        if self._owes_ack:
            # Last, so that where they take several messages it does not arrive without any of them.
            ack = Acked(line=self.opened_ms, through=self.receiver.through, missing_until=self.receiver.missing_until)
            words.append(ack)
        if words:
            self._flushed_at = self._loop.time()
            self._post(words)
        self._words, self._owes_ack = [], False

    def _post(self, words: list[Word]) -> None:
        assert self._producer is not None
        for part in _parts([codec.encode_word(word) for word in words]):
            self._producer.post(codec.encode(ControlMessage(sender=self._gateway, words=part)))

    async def _open(self) -> None:
        try:
            producer = await self._broker.producer(self._topic)
        except BrokerError as error:
            log.warning("A node cannot be spoken to yet.", action="control_unreachable", node=self.node, why=str(error))
            await asyncio.sleep(1.0)
        else:
            if self._closed:
                await producer.aclose()
                return
            self._producer = producer
            self._opened.set()
        self._opening = False
        if not self._closed:
            self._send()


def _parts(words: list[msgspec.Raw]) -> Iterator[list[msgspec.Raw]]:
    """Of at most :data:`wire.link.MESSAGE_BYTES_MAX`, unless one word is longer. Topics drop what is too long."""
    part: list[msgspec.Raw] = []
    size = 0
    for word in words:
        length = memoryview(word).nbytes
        if part and size + length > MESSAGE_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(word)
        size += length
    yield part


class Lines:
    """All lines of one gateway incarnation."""

    def __init__(
        self, gateway: str, broker: Broker, topics: Topics, taker: FrameTaker, metrics: GatewayMetrics
    ) -> None:
        self.echo_heard_at = float("-inf")
        """Loop time at which this gateway's own echo last came back."""
        self.counted: Callable[[str, Counted], None] = lambda *_: None
        """Who takes a node's counts of tokens."""
        self._gateway = gateway
        self._broker = broker
        self._topics = topics
        self._taker = taker
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._lines: dict[str, Line] = {}
        self._tasks = Tasks(log)
        self._own: Producer | None = None
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f"<Lines {list(self._lines.values())!r}>"

    async def start(self) -> None:
        """Join the link topic of this incarnation; nodes may speak from here on. May be called again if it failed."""
        topic = self._topics.link(self._gateway)
        if self._listener is None:
            self._listener = await self._broker.listen(topic, self._hear, waiting_max=LINK_WAITING_MAX)
        self._own = await self._broker.producer(topic)
        self._tasks.keep(self._forget_the_silent, "forget lines")

    async def aclose(self) -> None:
        """Leave the topic and every node."""
        if self._listener is not None:
            await self._listener.aclose()
        await self._tasks.aclose()
        for line in self._lines.values():
            await line.aclose()
        if self._own is not None:
            await self._own.aclose()

    def say(self, node: str, word: Word) -> None:
        """Say a word to a node. It may be lost: nodes ask again."""
        self.line(node).say(word)

    def heard_at(self, node: str) -> float:
        """Loop time of a node's latest message; minus infinity without a line."""
        line = self._lines.get(node)
        return line.heard_at if line is not None else float("-inf")

    def echo(self) -> None:
        """Send this gateway's own echo on its way."""
        if self._own is not None:
            self._own.post(codec.encode(Echo(sender=self._gateway, sent_ms=now_ms())))

    def line(self, node: str) -> Line:
        """The line of a node, which is opened if need be. Raises :class:`wire.errors.InvalidName`."""
        line = self._lines.get(node)
        if line is None:
            line = self._lines[node] = Line(self._gateway, node, self._broker, self._topics, self._tasks)
        return line

    def _hear(self, payload: bytes) -> None:
        try:
            message = codec.decode_link(payload)
            if isinstance(message, Echo):
                if message.sender == self._gateway:
                    self.echo_heard_at = self._loop.time()
            else:
                self._take(message)
        except (UndecodableMessage, InvalidName) as error:
            self._not_understood(error)

    def _take(self, message: LinkMessage) -> None:
        line = self.line(message.node)
        if message.line < line.opened_ms:
            return  # a line that its node has given up
        if message.line > line.opened_ms:
            line.opened_ms, line.receiver = message.line, LinkReceiver()
        line.heard_at = self._loop.time()
        at_once = self._repeat(line, message)
        for raw in line.receiver.receive(message.first, message.frames):
            at_once = self._hand_on(message.node, raw, repeated=False) or at_once
        gap = line.receiver.missing_until > 0
        if gap:
            self._hear_the_living(line, message)
        line.owe_ack(at_once=at_once or gap)

    def _repeat(self, line: Line, message: LinkMessage) -> bool:
        """Hand on what came before, but for contents: a word of ours was lost with the acknowledgement."""
        known = message.frames[: max(0, line.receiver.through + 1 - message.first)]
        for raw in known:
            self._hand_on(message.node, raw, repeated=True)
        return bool(known)

    def _hear_the_living(self, line: Line, message: LinkMessage) -> None:
        """That a holder lives need not wait for what was lost before it: it would pass for dead meanwhile."""
        for raw in message.frames[max(0, line.receiver.through + 1 - message.first) :]:
            with suppress(UndecodableMessage):
                frame = codec.decode_frame(raw)
                if isinstance(frame, Alive) and frame.holding:
                    self._hand_on(message.node, raw, repeated=False)

    def _hand_on(self, node: str, raw: msgspec.Raw, *, repeated: bool) -> bool:
        """Give a frame to the taker; returns whether an engine waits for its acknowledgement."""
        try:
            frame = codec.decode_frame(raw)
        except UndecodableMessage as error:
            self._not_understood(error)
            return False
        if isinstance(frame, Counted):
            self.counted(node, frame)
            return False
        if isinstance(frame, Content) and repeated:
            return False
        try:
            self._taker.frame(node, frame, repeated=repeated)
        except Exception as error:
            # Those that came with it are acknowledged as well: they must not be lost for it.
            log.error("A frame was dealt with in a way it should not.", error=error, action="frame_fault", node=node)
        return isinstance(frame, Started)

    def _not_understood(self, error: UndecodableMessage | InvalidName) -> None:
        self._metrics.undecodable["link"].inc()
        log.warning("A message on the link could not be read.", action="undecodable", why=error.message)

    async def _forget_the_silent(self) -> None:
        while True:
            await asyncio.sleep(LINE_FORGOTTEN_S / 10)
            for node, line in list(self._lines.items()):
                if self._loop.time() - line.heard_at > LINE_FORGOTTEN_S:
                    del self._lines[node]
                    await line.aclose()
