"""A person's decision about the letters of one request: try it again, or let it go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from dead_letters.shelf import Shelf
from dead_letters.trace import leave_trace, told_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.interface import Broker
    from wire.request import Request
    from wire.topics import Topics
    from wire.usage import Usage


class NoSuchLetter(Exception):
    """There is no dead letter of this request."""


@dataclass(frozen=True)
class Replayed:
    """How it ended this time. ``error`` is the code and the sentence that a client would have got."""

    status: Literal["answered", "failed", "expired", "dead"]
    answer: bytes
    usage: Usage | None = None
    error: tuple[str, str] | None = None
    settled: bool = True
    """Whether its node has acknowledged it: no attempt of it will follow."""

    @property
    def letter_done(self) -> bool:
        """Whether the old letter may go: it is answered, or a node has written a newer one."""
        return self.status == "answered" or (self.status == "dead" and self.settled)


class Replay(Protocol):
    """Owns a request once more, as its gateway did, until it ends.

    Raises :class:`wire.errors.FleetError` where it could not be published, and :class:`broker.interface.BrokerError`.
    """

    async def __call__(self, broker: Broker, topics: Topics, request: Request, timeout_s: float) -> Replayed: ...


async def replay_letter(
    broker: Broker,
    topics: Topics,
    model: str,
    request_id: str,
    timeout_s: float,
    replay: Replay,
    keep: Callable[[Replayed], Awaitable[None]] | None = None,
) -> Replayed:
    """Let the nodes try again. Raises :class:`NoSuchLetter`, :class:`dead_letters.shelf.ShelfTaken`, and what
    ``replay`` raises.

    ``keep`` is called before the letter goes: the answer is nobody's but the caller's.
    """
    async with Shelf(broker, topics, model) as shelf:
        letters = await shelf.of(request_id)
        if not letters or letters[0].letter is None:
            raise NoSuchLetter
        request = letters[0].letter.request
        done = await replay(broker, topics, request, timeout_s)
        code, message = done.error or (None, None)
        told = told_of(request, done.status, code=code, message=message)
        await leave_trace(broker, topics, "request.replayed", told)
        if keep is not None:
            await keep(done)
        if done.letter_done:
            shelf.remove(letters)
        return done


async def discard_letter(broker: Broker, topics: Topics, model: str, request_id: str) -> None:
    """Remove the letters of one request for good; the ledger hears of it. Raises what :func:`replay_letter` does."""
    async with Shelf(broker, topics, model) as shelf:
        letters = await shelf.of(request_id)
        if not letters or letters[0].letter is None:
            raise NoSuchLetter
        await leave_trace(broker, topics, "request.discarded", told_of(letters[0].letter.request, "dead"))
        shelf.remove(letters)
