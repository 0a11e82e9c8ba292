"""What follows from an outcome: what the gateway hears, what is billed, what becomes of the delivery. One table each.

The order is fixed elsewhere (:mod:`workernode.attempt`): the end is heard first, then the event, then the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from wire.control import Accepted, Stop
from wire.errors import ErrorBody, FleetError
from workernode.outcome import Answered, Cancelled, Interrupted, Later, Outcome, Refused

Queue = Literal["ack", "nack"]
"""What becomes of the delivery.

A nack by an attempt that does not own it any more changes nothing at the broker; by one that was fenced although it
lives and owns it, it gives the request back to others.
"""
Bill = Literal["charge", "failed", "cost", "abandoned", None]
"""Which event is told: the request's one charge, its failure, this attempt's cost for the operator, or none."""


class GatewayGone:
    """The verdict of a gateway that is not there any more."""


Verdict = Accepted | Stop | GatewayGone
"""What came of an attempt's end at the gateway."""


@dataclass(frozen=True)
class Settlement:
    """What to do with the event and the delivery."""

    bill: Bill
    queue: Queue
    dead_letter: bool = False
    """The request is kept for a person before its delivery is acknowledged."""


@dataclass(frozen=True)
class Ending:
    """What the gateway is told: a finished answer (perhaps cancelled), or an error."""

    error: ErrorBody | None = None
    cancelled: bool = False
    again: bool = False


def ending(outcome: Outcome, *, begun: bool) -> Ending | None:
    """What the gateway hears of this outcome; None where it knows already. ``begun``: the engine saw the request."""
    match outcome:
        case Answered():
            return Ending()
        case Refused(error):
            return Ending(error=error)
        case Later(error):
            return Ending(error=error, again=True)
        case Interrupted():
            return Ending(error=FleetError("The node is shutting down.").body(), again=True)
        case Cancelled(reason):
            return Ending(cancelled=True) if begun and reason == "cancelled" else None
        case _:
            assert_never(outcome)


def settlement(outcome: Outcome, verdict: Verdict | None, *, begun: bool) -> Settlement:
    """What follows, given the gateway's verdict on the end (None where :func:`ending` was None).

    ``begun`` is whether the engine has seen the request: what never ran costs nothing.
    """
    cost: Bill = "cost" if begun else None
    if isinstance(outcome, Cancelled) and verdict is None:
        return _stopped(outcome.reason, cost)
    match verdict:
        case Stop(reason="superseded" | "again"):
            return Settlement(cost, "nack")
        case GatewayGone() if not isinstance(outcome, Later | Interrupted):
            return Settlement("abandoned", "ack")
        case Stop(reason="cancelled") if begun and isinstance(outcome, Answered | Cancelled):
            # Only the request's holder hears this: its end and the stop have crossed, or the stop was told twice.
            return Settlement("charge", "ack")
        case Stop(reason="poison"):
            return Settlement(cost, "ack", dead_letter=True)
        case Stop(reason="done" | "unknown" | "cancelled" | "expired"):
            return Settlement(cost, "ack")
        case _:
            pass
    match outcome:
        case Answered() | Cancelled():
            return Settlement("charge", "ack")
        case Refused():
            return Settlement("failed", "ack")
        case Later() | Interrupted():
            return Settlement(cost, "nack")
        case _:
            assert_never(outcome)


def _stopped(reason: str, cost: Bill) -> Settlement:
    match reason:
        case "superseded" | "again":
            return Settlement(cost, "nack")
        case "gateway_gone":
            return Settlement("abandoned", "ack")
        case "poison":
            return Settlement(cost, "ack", dead_letter=True)
        case _:
            return Settlement(cost, "ack")
