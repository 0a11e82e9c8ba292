"""Who may wait for a node, how far it stands in the queue, and when others may try again. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.models.capacity import EXACT
from wire.errors import Overloaded

if TYPE_CHECKING:
    from gateway.models.capacity import Capacity
    from gateway.models.register import Models
    from gateway.queue.backlog import Backlog, Counts, Whereabouts

COLD_RETRY_MS = 10_000
"""When too many wait for nodes that nobody has measured, a client should look again after this."""


@dataclass(frozen=True)
class Standing:
    """Where a request stands. ``position``: 1 for the next to be taken, 0 with a free slot; ``eta_ms``: until it is."""

    position: int
    eta_ms: int | None
    """None: nobody has measured the nodes, or there are none."""


def admit(capacity: Capacity, counts: Counts, left_ms: float, now_ms: int, cold_requests_max: int) -> Standing:
    """Where a request stands that comes now and has ``left_ms`` until its deadline.

    It may wait if its turn is expected to come while there is time for an answer, which takes as long as others did:
    without that rule a queue that stays full would only begin what it cannot end. A free slot is never refused.

    Raises :class:`wire.errors.Overloaded`; its time is when the same request would be admitted, if until then nodes
    go on as measured and nobody else comes.
    """
    ahead = _ahead(capacity, counts, now_ms)
    position = max(0, ahead + 1 - capacity.slots(now_ms))
    wait_ms = capacity.begun_ms(ahead + 1, now_ms)
    if wait_ms is None:
        if position > cold_requests_max:
            raise Overloaded(
                f"{position - 1} requests wait for a node of this model already. Try again later.",
                retry_after_ms=COLD_RETRY_MS,
            )
        return Standing(position, None)
    room_ms = max(0.0, left_ms - (capacity.service_ms or 0.0))
    if wait_ms > room_ms:
        raise Overloaded(
            f"A request of this model would wait about {math.ceil(wait_ms / 1000)} s for its turn, and could not be "
            "answered before its deadline. Try again later.",
            retry_after_ms=max(1, _whole(capacity.next_end_ms(wait_ms - room_ms, now_ms))),
        )
    return Standing(position, _whole(wait_ms))


def _whole(milliseconds: float) -> int:
    return math.ceil(milliseconds * (1 - EXACT))


def _ahead(capacity: Capacity, counts: Counts, now_ms: int) -> int:
    """Open requests that a newcomer has to wait for, those at work included."""
    return max(counts.waiting, counts.open - capacity.elsewhere(now_ms))


class Admission:
    """Lets requests in, by what the nodes and the other gateways say."""

    def __init__(self, models: Models, backlog: Backlog, *, cold_requests_max: int) -> None:
        self._models = models
        self._backlog = backlog
        self._cold_requests_max = cold_requests_max

    def admit(self, model: str, left_ms: float, now_ms: int) -> Place:
        """Let a request in; :meth:`Place.leave` must follow. Raises :class:`wire.errors.Overloaded`."""
        capacity, counts = self._models.capacity(model), self._backlog.of(model)
        standing = admit(capacity, counts, left_ms, now_ms, self._cold_requests_max)
        return Place(model, standing, self._models, self._backlog, now_ms)


class Place:
    """One request's place among the open ones, until its client has its end."""

    def __init__(self, model: str, admitted: Standing, models: Models, backlog: Backlog, now_ms: int) -> None:
        self.admitted = admitted
        """Where it stood when it was let in."""
        self._model = model
        self._models = models
        self._backlog = backlog
        self._since_ms = now_ms
        self._where: Whereabouts | None = None
        self._taken = False
        self._ticket = backlog.of(model).taken + admitted.position
        """It is its turn when so many were taken: the queue is served in the order in which requests come."""
        self._move("waiting")

    def __repr__(self) -> str:
        return f"<Place {self._where} ticket={self._ticket}>"

    def accept(self) -> None:
        """Nothing refuses it any more."""
        self._backlog.accept(self._model)

    def held(self, held: bool) -> None:
        """Whether a node has the request now, or it waits (again)."""
        if self._where is not None:
            self._move("running" if held else "waiting")

    def leave(self) -> None:
        """Its client has its end, or none is owed to it. Does nothing twice."""
        self._move(None)

    def standing(self, now_ms: int) -> Standing | None:
        """Where it stands now; None once a node has it.

        Requests ahead whose clients hang up are noticed only when all that wait are fewer than the position.
        """
        if self._where != "waiting":
            return None
        counts, capacity = self._backlog.of(self._model), self._models.capacity(self._model)
        position = max(1, min(self._ticket - counts.taken, counts.waiting))
        wait_ms = capacity.begun_ms(capacity.slots(now_ms) + position, now_ms)
        return Standing(position, None if wait_ms is None else _whole(wait_ms))

    def _move(self, where: Whereabouts | None) -> None:
        if where == self._where:
            return
        first = where == "running" and not self._taken
        self._taken = self._taken or first
        before, self._where = self._where, where
        self._backlog.move(self._model, before, where, taken=first, since_ms=self._since_ms)
