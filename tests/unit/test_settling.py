from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from wire.control import Accepted, Stop, StopReason
from wire.errors import ErrorBody
from wire.usage import Usage
from workernode.outcome import Answered, Cancelled, Interrupted, Later, Outcome, Refused
from workernode.settling import Ending, GatewayGone, Queue, Settlement, ending, settlement

if TYPE_CHECKING:
    from workernode.settling import Verdict

ERROR = ErrorBody(code="c", message="m")
REASONS = ("cancelled", "expired", "superseded", "again", "done", "unknown", "poison")
CANCEL_REASONS = (*REASONS, "gateway_gone")

OUTCOMES: dict[str, Outcome] = {
    "answered": Answered(Usage()),
    "refused": Refused(ERROR),
    "later": Later(ERROR),
    "interrupted": Interrupted(),
    **{f"cancelled:{reason}": Cancelled(reason, Usage()) for reason in CANCEL_REASONS},  # type: ignore[arg-type]
}
VERDICTS: dict[str, Verdict] = {
    "accepted": Accepted(attempt_id="att_1"),
    "gone": GatewayGone(),
    **{reason: Stop(attempt_id="att_1", reason=reason) for reason in REASONS},  # type: ignore[arg-type]
}

# What the gateway hears of an outcome: (never begun, begun). None: nothing, it knows.
SAID: dict[str, tuple[str | None, str | None]] = {
    "answered": ("answer", "answer"),
    "refused": ("error", "error"),
    "later": ("again", "again"),
    "interrupted": ("again", "again"),
    "cancelled:cancelled": (None, "cancelled answer"),
    "cancelled:expired": (None, None),
    "cancelled:superseded": (None, None),
    "cancelled:again": (None, None),
    "cancelled:done": (None, None),
    "cancelled:unknown": (None, None),
    "cancelled:poison": (None, None),
    "cancelled:gateway_gone": (None, None),
}

# What follows an end that the gateway heard, once the engine has begun: the event, then what becomes of the delivery.
# ``over``: any other stop, because the request has its end. A holder that hears ``cancelled`` when it has said its end
# is charged: the two have crossed, or the stop was told twice.
VERDICT_COLUMNS = ("accepted", "gone", "superseded", "again", "cancelled", "over")  # `poison` is over and a dead letter
HEARD = {
    "answered": ("charge ack", "abandoned ack", "cost nack", "cost nack", "charge ack", "cost ack"),
    "refused": ("failed ack", "abandoned ack", "cost nack", "cost nack", "cost ack", "cost ack"),
    "later": ("cost nack", "cost nack", "cost nack", "cost nack", "cost ack", "cost ack"),
    "interrupted": ("cost nack", "cost nack", "cost nack", "cost nack", "cost ack", "cost ack"),
    "cancelled": ("charge ack", "abandoned ack", "cost nack", "cost nack", "charge ack", "cost ack"),
}
# What follows where nothing was said: the stop itself decides.
UNSAID = {
    "cancelled": "cost ack",
    "expired": "cost ack",
    "superseded": "cost nack",
    "again": "cost nack",
    "done": "cost ack",
    "unknown": "cost ack",
    "poison": "cost ack dead",
    "gateway_gone": "abandoned ack",
}
OVER = ("expired", "done", "unknown", "poison")


def _row(text: str, *, begun: bool) -> Settlement:
    bill, queue, *dead = text.split()
    # What never ran costs nothing.
    return Settlement(None if bill == "cost" and not begun else bill, queue, bool(dead))  # type: ignore[arg-type]


def test_the_tables_are_complete() -> None:
    assert set(REASONS) == set(get_args(StopReason))
    assert {type(outcome) for outcome in OUTCOMES.values()} == set(get_args(Outcome))
    assert set(SAID) == set(OUTCOMES)
    assert set(UNSAID) == set(CANCEL_REASONS)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", OUTCOMES)
def test_what_a_gateway_hears_of_each_outcome(name: str, begun: bool) -> None:
    said = ending(OUTCOMES[name], begun=begun)
    match SAID[name][begun]:
        case None:
            assert said is None
        case "answer":
            assert said == Ending()
        case "cancelled answer":
            assert said == Ending(cancelled=True)
        case "error":
            assert said == Ending(error=ERROR)
        case _:
            assert said is not None
            assert said.error is not None
            assert said.again
            assert not said.cancelled


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("name", [name for name in OUTCOMES if any(SAID[name])])
def test_what_follows_each_outcome_and_verdict(name: str, verdict: str, begun: bool) -> None:
    column = VERDICT_COLUMNS.index("over" if verdict in OVER else verdict)
    expected = _row(HEARD[name.partition(":")[0]][column] + " dead" * (verdict == "poison"), begun=begun)
    if verdict == "cancelled" and not begun:
        expected = Settlement(None, "ack")
    assert settlement(OUTCOMES[name], VERDICTS[verdict], begun=begun) == expected


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("reason", CANCEL_REASONS)
def test_what_follows_a_stop_that_needs_no_answer(reason: str, begun: bool) -> None:
    expected = _row(UNSAID[reason], begun=begun)
    assert settlement(OUTCOMES[f"cancelled:{reason}"], None, begun=begun) == expected


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("name", OUTCOMES)
def test_only_an_accepted_end_or_a_cancelled_holder_is_charged(name: str, verdict: str, begun: bool) -> None:
    if settlement(OUTCOMES[name], VERDICTS[verdict], begun=begun).bill == "charge":
        assert verdict == "accepted" or (verdict == "cancelled" and begun)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("reason", ["superseded", "again"])
@pytest.mark.parametrize("name", OUTCOMES)
def test_a_request_that_others_still_work_on_is_handed_back_and_never_charged(
    name: str, reason: str, begun: bool
) -> None:
    """Acknowledging would lose it; keeping it without an end would too, should it have been fenced by mistake."""
    heard = settlement(OUTCOMES[name], VERDICTS[reason], begun=begun)
    stopped = settlement(OUTCOMES[f"cancelled:{reason}"], None, begun=begun)
    for result in (heard, stopped):
        assert result.queue == "nack"
        assert result.bill in ("cost", None)
        assert not result.dead_letter


def test_no_delivery_is_kept_by_an_attempt_that_has_ended() -> None:
    assert set(get_args(Queue)) == {"ack", "nack"}
