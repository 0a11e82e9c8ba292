"""The node's side of one link: what it says to one gateway incarnation, until that has it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from process.logging import Log
from wire import codec
from wire.link import LinkSender
from wire.piece import LinkMessage, Settled
from workernode.silence import Silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Producer
    from wire.control import Acked
    from wire.piece import Alive, Frame

log = Log("node")

GATHER_S = 0.005
"""While a line is busy, pieces of all its streams wait this long for one another."""
HEARTBEAT_S = 2.0
"""A gateway with work here hears a frame at least this often, so that its acknowledgement tells that it lives."""
GATEWAY_LOST_S = 5.0
"""Without acknowledgement for this long, while this node's own echo is heard, a gateway is gone."""
LAST_WORDS_S = 60.0
"""For so long a gateway that was found gone is told again what became of its requests, until it says that it knows. It
may only have been cut off, and then its clients wait for what nobody works on."""
LAST_WORDS_EVERY_S = 2.0
"""How often. What a backlog of a gateway that is really gone leaves is much, and nobody hears it."""
LAST_WORDS_MAX = 10_000


class _LastWord(NamedTuple):
    """What became of a request, to be said until it is acknowledged."""

    word: Settled
    said_at: float
    """Loop time at which it was said first."""
    pushed: int
    """After so many pushes of the line that says it."""


class Uplink:
    """Carries frames to one gateway until it acknowledges them. Not for several threads."""

    def __init__(
        self,
        gateway: str,
        node: str,
        producer: Producer,
        echo: Callable[[], None],
        new_line: Callable[[], int],
        lost_after_s: float = GATEWAY_LOST_S,
        resent: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``resent`` hears how many frames are published once more."""
        self.gateway = gateway
        self.users = 0
        """How many attempts need this line now."""
        self._node = node
        self._producer = producer
        self._echo = echo
        self._new_line = new_line
        self._resent = resent
        self._loop = asyncio.get_running_loop()
        self.line = new_line()
        self.lost = False
        """Whether the gateway was found to be gone. Such a line takes no attempt any more, and only last words."""
        self.successor: Uplink | None = None
        """Says the last words of this one."""
        self._settled: deque[_LastWord] = deque()
        """What became of requests and is not acknowledged, the oldest first: of a lost line, its last words."""
        self._sender = LinkSender()
        self._flush: asyncio.Handle | None = None
        self._flush_soon = False
        self._flushed_at = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._pushed = 0
        self._listened_to: deque[tuple[int, asyncio.Future[bool]]] = deque()  # who waits for so many to be heard
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()
        self._drained = asyncio.Event()
        self._drained.set()
        self._silence = Silence(lost_after_s)
        self._gone: list[Callable[[], None]] = []
        self.idle_since = self._loop.time()

    def __repr__(self) -> str:
        return f"<Uplink to={self.gateway} users={self.users} {self._sender!r}>"

    @property
    def silent(self) -> bool:
        """Whether no attempt has it, and it has no last words."""
        since = self._loop.time() - LAST_WORDS_S
        return not self.users and all(last.said_at < since for last in self._settled)

    @property
    def suspect(self) -> bool:
        """Whether the gateway was found gone before, and was not heard since."""
        return self._silence.lost_after_s < GATEWAY_LOST_S

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and no attempt needs the line."""
        return self.users == 0 and self._sender.idle

    def push(self, frame: Frame, *, urgent: bool = False) -> None:
        """Queue a frame. ``urgent``: at once; else within :data:`GATHER_S` while the line is busy, at once if not."""
        if self.lost:
            if isinstance(frame, Settled):
                self._say_at_last([(frame, self._loop.time())])
            return
        self._queue(frame, self._loop.time())
        self._send_soon(urgent=urgent)

    def pass_on(self, line: Uplink) -> None:
        """Have ``line`` say the last words of this lost one from here on: a gateway hears the newest line alone."""
        self.successor = line
        line.take_over(self._last_words())

    def take_over(self, words: list[tuple[Settled, float]]) -> None:
        """Say the last words of another line, each with the time at which it was said first."""
        if not words:
            return
        if self.lost:
            self._say_at_last(words)
            return
        for word, said_at in words:
            self._queue(word, said_at)
        self._send_soon(urgent=False)

    def _send_soon(self, *, urgent: bool) -> None:
        self._drained.clear()
        if not self._sender.open:
            self._room.clear()
        now = self._loop.time()
        if self._flush is not None:
            if self._flush_soon or not urgent:
                return
            self._flush.cancel()
        # "At once" is the end of this turn of the loop, so that pieces written together travel together.
        self._flush_soon = urgent or now - self._flushed_at >= GATHER_S
        if self._flush_soon:
            self._flush = self._loop.call_soon(self._send)
        else:
            self._flush = self._loop.call_at(self._flushed_at + GATHER_S, self._send)

    def keep_warm(self, word: Alive) -> None:
        """Say this if nothing else was said for :data:`HEARTBEAT_S`."""
        if self._sender.idle and self._loop.time() - self._flushed_at >= HEARTBEAT_S:
            self.push(word)

    async def heard(self) -> bool:
        """Wait until the gateway has acknowledged what was pushed so far; False if it is found to be gone."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._listened_to.append((self._pushed, waiter))
        self._tell_who_is_heard()
        return await waiter

    async def drained(self) -> None:
        """Wait until the gateway has acknowledged everything."""
        await self._drained.wait()

    async def room(self) -> None:
        """Wait until the gateway has taken enough for more to be pushed."""
        await self._room.wait()

    def acked(self, word: Acked) -> None:
        """The gateway acknowledged."""
        if word.line != self.line:
            return
        if self._sender.forgotten(word.through, word.missing_until):
            # It heard nothing of this node for too long. What it has not acknowledged is all that it can still need.
            log.info("A gateway has forgotten this node's line; a new one is begun.", action="line_again")
            self.line = self._new_line()
            self._sender.start_over()
        elif word.through < self._sender.acked_through:
            return  # an old one, heard again: it does not tell that the gateway lives
        else:
            self._sender.acked(word.through, word.missing_until, self._loop.time())
        heard = self._pushed - self._sender.unacked
        while self._settled and self._settled[0].pushed <= heard:
            self._settled.popleft()
        if self.lost:
            return
        self._tell_who_is_heard()
        self._silence.end()
        self._silence.lost_after_s = GATEWAY_LOST_S
        if self._sender.open:
            self._room.set()
        if self._sender.has_to_send and self._flush is None:
            self._flush_soon = True
            self._flush = self._loop.call_soon(self._send)
        if self._sender.idle:
            self._drained.set()
            self.idle_since = self._loop.time()

    def echo_heard(self) -> None:
        """This node's own echo came back: the gateway's silence counts."""
        if not self.lost and self._silence.echo_heard(self._loop.time()):
            self.lost = True
            # On a line of their own: the last words shall not wait for what nobody needs any more.
            self.line, self._sender = self._new_line(), LinkSender(resend_after_s=LAST_WORDS_EVERY_S)
            self._say_at_last(self._last_words())
            log.warning("A gateway is gone.", action="gateway_gone", gateway=self.gateway)
            self._room.set()
            self._drained.set()
            self._tell_who_is_heard()
            for tell in self._gone[:]:
                tell()

    def on_gone(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call ``tell`` when the gateway is found to be gone; returns how to withdraw that."""
        self._gone.append(tell)
        return lambda: self._gone.remove(tell) if tell in self._gone else None

    async def aclose(self) -> None:
        """Stop the timers and leave the topic."""
        self.lost = True
        self._tell_who_is_heard()
        for handle in (self._flush, self._tick):
            if handle is not None:
                handle.cancel()
        self._flush = self._tick = None
        await self._producer.aclose()

    def _queue(self, frame: Frame, now: float) -> None:
        self._sender.push(codec.encode_frame(frame))
        self._pushed += 1
        if isinstance(frame, Settled):
            self._settled.append(_LastWord(frame, now, self._pushed))

    def _last_words(self) -> list[tuple[Settled, float]]:
        """Take away what is still to be said."""
        words, self._settled = self._settled, deque()
        since = self._loop.time() - LAST_WORDS_S
        return [(last.word, last.said_at) for last in words if last.said_at >= since][-LAST_WORDS_MAX:]

    def _say_at_last(self, words: list[tuple[Settled, float]]) -> None:
        if self.successor is not None:
            self.successor.take_over(words)
            return
        for word, said_at in words:
            self._queue(word, said_at)
        self._send()

    def _tell_who_is_heard(self) -> None:
        heard = self._pushed - self._sender.unacked
        while self._listened_to and (self.lost or self._listened_to[0][0] <= heard):
            _, waiter = self._listened_to.popleft()
            if not waiter.done():
                waiter.set_result(not self.lost)

    def _messages(self) -> list[bytes]:
        self._flush = None
        self._flushed_at = now = self._loop.time()
        before = self._sender.resent
        messages = [
            codec.encode(LinkMessage(node=self._node, line=self.line, first=first, frames=frames))
            for first, frames in self._sender.take(now)
        ]
        if self._sender.resent > before:
            self._resent(self._sender.resent - before)
        if messages:
            self._silence.begin(now)
            if self._tick is None:
                self._tick = self._loop.call_later(0.25, self._on_tick)
        return messages

    def _send(self) -> None:
        for message in self._messages():
            self._producer.post(message)

    def _on_tick(self) -> None:
        """Resend after silence, and ask for the own echo when the silence grows long."""
        self._tick = None
        if self._sender.idle or (self.lost and self.silent):
            return
        now = self._loop.time()
        wake = self._sender.wake_at()
        if wake is not None and now >= wake and self._flush is None:
            self._send()
        if not self.lost and self._silence.asks(now):
            self._echo()
        if self._tick is None:
            self._tick = self._loop.call_later(0.25, self._on_tick)
