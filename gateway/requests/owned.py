"""A request that this gateway owns, with all that is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.queue.admission import Place
    from gateway.requests.conversation import Conversation
    from gateway.requests.exchange import Exchange
    from gateway.requests.journey import Journey
    from process.timers import Timer
    from wire.errors import ErrorBody
    from wire.request import Request


@dataclass(slots=True, eq=False)
class Owned:
    """Its state, its client's exchange and its timers."""

    request: Request
    """Without its body."""
    body_bytes: int
    conversation: Conversation
    exchange: Exchange
    journey: Journey
    place: Place | None = None
    deadline: Timer | None = None
    ends_at: float = 0.0
    """Loop time of its deadline."""
    attempts: tuple[str, ...] = ()
    insisted: int = 0
    client_waits: bool = True
    end_told: bool = False
    """Whether the ledger hears how this request ended: from us, or from a node that was told to tell it."""
    trusted: frozenset[str] = frozenset()
    """Attempts that were told to tell the end before they settle."""
    charge: bytes | None = None
    """What the accepted attempt charges."""
    error: ErrorBody | None = None
    """What the client got instead of an answer."""

    @property
    def ids(self) -> dict[str, str | None]:
        """For log lines."""
        return {"request_id": self.request.request_id, "trace_id": self.journey.trace_id}
