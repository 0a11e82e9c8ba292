"""The link: how frames from one node reach one gateway whole and in order over topics that may drop messages.

Two pure state machines. The caller brings the clock (seconds, monotonic) and carries what they return. Frames are
numbered from 1 per line (a node's incarnation, a gateway's, and when the node opened it); the receiver acknowledges
cumulatively and names the first gap; the sender resends a named gap at once and everything unacknowledged after
silence. "The gateway has it" means this acknowledgement and nothing else: a receipt of a non-persistent topic is given
even for what it dropped.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

RESEND_AFTER_S = 0.5
UNACKED_BYTES_MAX = 8 * 1024 * 1024
MESSAGE_BYTES_MAX = 256 * 1024
ACK_WITHIN_S = 0.05
HELD_FRAMES_MAX = 65_536
"""Frames beyond a gap that a receiver keeps; what is more will be resent."""


class LinkSender:
    """The node's side. :meth:`push` frames, :meth:`take` what to publish, tell it what was :meth:`acked`."""

    def __init__(
        self,
        *,
        resend_after_s: float = RESEND_AFTER_S,
        unacked_bytes_max: int = UNACKED_BYTES_MAX,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self._resend_after_s = resend_after_s
        self._unacked_bytes_max = unacked_bytes_max
        self._message_bytes_max = message_bytes_max
        self._frames: deque[bytes] = deque()  # every frame from number `_base` on that is not acknowledged
        self._base = 1
        self._unsent = 1  # number of the first frame that was never published
        self._resend: tuple[int, int] | None = None  # numbers [from, until) to publish again
        self._again_at = float("-inf")  # when frames were last resent,
        self._again_until = 1  # and the number of the first one above them
        self._sent_at = 0.0
        self.unacked_bytes = 0
        self.resent = 0
        """Frames that were published more than once."""

    def __repr__(self) -> str:
        unacked = f"unacked={len(self._frames)} bytes={self.unacked_bytes}"
        return f"<LinkSender from={self._base} unsent_from={self._unsent} {unacked}>"

    @property
    def open(self) -> bool:
        """Whether there is room for more. When not, engines pause until an acknowledgement comes."""
        return self.unacked_bytes < self._unacked_bytes_max

    @property
    def idle(self) -> bool:
        """Whether everything pushed is acknowledged."""
        return not self._frames

    @property
    def unacked(self) -> int:
        """How many of the frames that were pushed are not acknowledged."""
        return len(self._frames)

    @property
    def acked_through(self) -> int:
        """The number of the last acknowledged frame."""
        return self._base - 1

    def start_over(self) -> None:
        """Number what is not acknowledged from 1 again, for a new line, and publish all of it."""
        self._base = self._unsent = self._again_until = 1
        self._resend, self._again_at = None, float("-inf")

    def push(self, frame: bytes) -> int:
        """Queue a frame and return its number. Never refuses: ask :attr:`open` before producing more."""
        self._frames.append(frame)
        self.unacked_bytes += len(frame)
        return self._base + len(self._frames) - 1

    def take(self, now: float) -> list[tuple[int, list[msgspec.Raw]]]:
        """What to publish now, as (first number, frames): named gaps, all after silence, then the new ones."""
        end = self._base + len(self._frames)
        wake_at = self.wake_at()
        if wake_at is not None and now >= wake_at:
            self._resend = (self._base, self._unsent)
            self._again_at, self._again_until = now, self._unsent
        messages: list[tuple[int, list[msgspec.Raw]]] = []
        if self._resend is not None:
            start, until = max(self._resend[0], self._base), min(self._resend[1], self._unsent)
            self._resend = None
            self.resent += max(0, until - start)
            messages.extend(self._cut(start, until))
        messages.extend(self._cut(self._unsent, end))
        if messages:
            self._sent_at = now
        self._unsent = end
        return messages

    def acked(self, through: int, missing_until: int, now: float) -> bool:
        """Take an acknowledgement; tells whether it was news. Old, repeated and absurd ones do no harm."""
        through = min(through, self._unsent - 1)
        progress = through >= self._base
        while self._base <= through:
            self.unacked_bytes -= len(self._frames.popleft())
            self._base += 1
        if progress:
            self._sent_at = now  # silence is counted from the last sign of life
        if missing_until > self._base and through == self._base - 1:
            self._close_gap(min(missing_until, self._unsent), now)
        return progress

    def forgotten(self, through: int, missing_until: int) -> bool:
        """Whether this is the word of a receiver that knows nothing of what was acknowledged before.

        It waits for frames that are gone here, for ever. An old acknowledgement that is heard once more may look the
        same: :meth:`start_over` then only repeats what is under way.
        """
        return through == 0 and missing_until > 0 and self.acked_through > 0

    @property
    def has_to_send(self) -> bool:
        """Whether :meth:`take` would return something at once."""
        again = self._resend is not None and self._resend[1] > self._base
        return again or self._unsent < self._base + len(self._frames)

    def wake_at(self) -> float | None:
        """When silence would make :meth:`take` resend; None while nothing is unacknowledged."""
        return self._sent_at + self._resend_after_s if self._unsent > self._base else None

    def _close_gap(self, until: int, now: float) -> None:
        """Resend what lies before ``until``: what was resent already only when that had time to arrive.

        Frames under way make several acknowledgements name the same gap, or the rest of it.
        """
        under_way = now - self._again_at < self._resend_after_s / 2
        start = max(self._base, self._again_until) if under_way else self._base
        if start >= until:
            return
        self._again_at, self._again_until = now, until
        if self._resend is not None:
            start, until = min(start, self._resend[0]), max(until, self._resend[1])
        self._resend = (start, until)

    def _cut(self, start: int, until: int) -> Iterable[tuple[int, list[msgspec.Raw]]]:
        first, size = start, 0
        frames: list[msgspec.Raw] = []
        for number in range(start, until):
            frame = self._frames[number - self._base]
            if frames and size + len(frame) > self._message_bytes_max:
                yield first, frames
                first, size, frames = number, 0, []
            frames.append(msgspec.Raw(frame))
            size += len(frame)
        if frames:
            yield first, frames


class LinkReceiver:
    """The gateway's side, one per line: :meth:`receive` a message, pass on what it returns, acknowledge."""

    def __init__(
        self,
        *,
        held_bytes_max: int = UNACKED_BYTES_MAX + MESSAGE_BYTES_MAX,
        held_frames_max: int = HELD_FRAMES_MAX,
    ) -> None:
        self._held_bytes_max = held_bytes_max
        self._held_frames_max = held_frames_max
        self._held: dict[int, msgspec.Raw] = {}  # frames beyond a gap
        self._order: list[int] = []  # a heap of their numbers, and of some that were passed on meanwhile
        self._held_bytes = 0
        self.through = 0
        """The number of the last frame passed on."""

    def __repr__(self) -> str:
        return f"<LinkReceiver through={self.through} held={len(self._held)} bytes={self._held_bytes}>"

    @property
    def missing_until(self) -> int:
        """The number of the first frame held beyond a gap; 0 without a gap."""
        while self._order and self._order[0] <= self.through:
            heapq.heappop(self._order)
        return self._order[0] if self._order else 0

    def receive(self, first: int, frames: list[msgspec.Raw]) -> list[msgspec.Raw]:
        """The frames that are now next in order, each exactly once. What does not fit is dropped: it will be resent."""
        ready: list[msgspec.Raw] = []
        for number, frame in enumerate(frames, first):
            if number == self.through + 1:
                ready.append(frame)
                self.through = number
            elif number > self.through and number not in self._held:
                size = memoryview(frame).nbytes
                if self._held_bytes + size <= self._held_bytes_max and len(self._held) < self._held_frames_max:
                    self._held[number] = frame
                    heapq.heappush(self._order, number)
                    self._held_bytes += size
            if self._held:
                while (following := self._held.pop(self.through + 1, None)) is not None:
                    self._held_bytes -= memoryview(following).nbytes
                    ready.append(following)
                    self.through += 1
        return ready
