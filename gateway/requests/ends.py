"""The ends of owned requests, for the ledger: it hears of each once from us or from a node, whoever knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wire.errors import Poison

if TYPE_CHECKING:
    from gateway.requests.owned import Owned
    from gateway.requests.record import GatewayRecorder
    from wire.errors import ErrorBody
    from wire.event import RequestEventType, Status
    from wire.piece import Settled

CHARGE_AFTER_S = 5.0
"""An accepted end that its node does not settle for this long is charged by us as well: the node may be dead, or take
us for dead. The charge is the same, and counts once."""


class Ends:
    """Tells what no node tells, and what a node has not told for too long."""

    def __init__(self, recorder: GatewayRecorder) -> None:
        self._recorder = recorder
        self._unsettled: dict[str, tuple[float, Owned]] = {}  # by request, since when its end is accepted
        self._charging: asyncio.TimerHandle | None = None

    @property
    def unsettled_count(self) -> int:
        """Of how many accepted ends it is not certain yet that they are charged."""
        return len(self._unsettled)

    @property
    def untold_count(self) -> int:
        """How many the broker has not taken yet."""
        return self._recorder.ends_waiting

    def accept(self, owned: Owned, charge: bytes) -> None:
        """An attempt's end is the request's: its node charges it, and settles."""
        loop = asyncio.get_running_loop()
        owned.charge = charge
        self._unsettled[owned.request.request_id] = loop.time(), owned
        if self._charging is None:
            self._charging = loop.call_later(CHARGE_AFTER_S, self._charge_unsettled)

    def settled(self, owned: Owned, piece: Settled) -> None:
        """A node has settled: one that was told to tell the end has done so, unless it gave the request up."""
        owned.end_told = owned.end_told or (piece.attempt_id in owned.trusted and not piece.abandoned)

    def tell(self, owned: Owned) -> None:
        """Tell how a request ended, once, and only where no node does."""
        if owned.end_told or owned.conversation.state == "open":
            return
        owned.end_told = True
        if owned.charge is not None:
            self._recorder.repeat(owned.charge, owned.request.request_id)
            return
        match owned.conversation.state:
            case "cancelled":
                self._record(owned, "request.cancelled", "cancelled", owned.error)
            case "expired":
                self._record(owned, "request.expired", "expired", owned.error)
            case "poison":
                self._record(owned, "request.dead", "dead", _obituary(owned))
            case _:
                self._record(owned, "request.failed", "failed", owned.error)

    def forget(self, owned: Owned) -> None:
        """Nothing more will be heard of it."""
        self.tell(owned)
        self._unsettled.pop(owned.request.request_id, None)

    def _charge_unsettled(self) -> None:
        loop = asyncio.get_running_loop()
        self._charging = None
        for request_id, (since, owned) in list(self._unsettled.items()):
            if since + CHARGE_AFTER_S > loop.time():
                self._charging = loop.call_at(since + CHARGE_AFTER_S, self._charge_unsettled)
                return
            del self._unsettled[request_id]
            self.tell(owned)

    def _record(self, owned: Owned, kind: RequestEventType, status: Status, error: ErrorBody | None) -> None:
        attempts = owned.conversation.attempts
        self._recorder.request_event(kind, owned.request, owned.body_bytes, status, attempts, error)


def _obituary(owned: Owned) -> ErrorBody:
    """Why a request is dead, and what to do, for people."""
    request, deaths = owned.request, owned.conversation.deaths
    return Poison(
        f"This request brought down {deaths} nodes of model {request.model!r} that worked on it, one after the other. "
        f"No node gets it again. See 'fleet dead-letters show {request.request_id} --model {request.model}', "
        "then replay or discard it."
    ).body()
