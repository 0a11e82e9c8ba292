"""After the end, and what ends a request besides its answer: its client goes, or its time is over."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.requests.conversation import FAILING_S, FAILURES_MAX
from gateway.requests.decisions import Break, Complete, Decision, Forget, Show, State
from tests.unit.conversation.story import NOW, Story, accepted, breaks, park, probe, settle, stop, third_death, told
from wire.control import Go, Stop
from wire.errors import AnswerTooLarge, ErrorBody, UpstreamFailed

# After the end


def test_a_question_after_the_end_gets_the_identical_charge(story: Story) -> None:
    story.starts("a1")
    story.finishes("a1")
    assert story.starts("a2") == [settle("a2")]
    assert story.starts("a2") == [settle("a2")]


def test_an_attempt_that_begins_on_its_own_after_the_end_hands_back_so_that_it_can_settle(story: Story) -> None:
    """While its engine works it cannot take a charge; without one the request would never be billed."""
    story.starts("a1")
    story.finishes("a1")
    assert story.starts("a2", begun=True) == [stop("a2", "again")]
    assert story.writes("a2", 1) == [stop("a2", "again")]
    assert story.finishes("a2", 2) == [stop("a2", "again")]
    assert story.starts("a3") == [settle("a3")]


def test_a_silence_noticed_after_the_end_changes_nothing(story: Story) -> None:
    story.starts("a1")
    story.writes("a1", 1)
    story.starts("a2")
    story.finishes("a1", 2)
    assert story.is_silent("a1") == []
    assert story.answers("a1", holding=False) == []
    assert story.state == "answered"
    assert story.finishes("a1", 2) == [accepted("a1")]


def test_a_silence_noticed_after_the_client_has_gone_begins_nothing(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    story.conversation.hung_up()
    assert not [word for word in told(story.is_silent("a1")) if isinstance(word, Go)]
    assert story.state == "cancelled"


def test_whoever_settles_first_the_holder_still_hears_that_it_was_accepted(story: Story) -> None:
    story.starts("a1")
    story.finishes("a1")
    story.starts("a2")
    assert story.settles("a2") == []
    assert story.finishes("a1") == [accepted("a1")]
    assert story.settles("a1") == [Forget()]


def test_parked_attempts_are_released_when_the_request_is_settled(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    story.answers("a1", holding=True)
    story.finishes("a1")
    assert story.settles("a1") == [stop("a2", "done"), Forget()]


def test_a_request_acknowledged_without_an_end_breaks(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    decisions = story.settles("a1")
    assert breaks(decisions) == ["server_error"]
    assert stop("a2", "done") in decisions
    assert decisions[-1] == Forget()


@pytest.mark.parametrize("hands_back", [True, False], ids=["hands back", "dies"])
def test_a_request_that_a_dead_one_acknowledged_breaks_when_its_last_holder_leaves(
    story: Story, hands_back: bool
) -> None:
    """The queue has nothing any more that it could be begun from: nobody shall wait for that."""
    story.starts("a1")
    story.starts("a2")
    story.is_silent("a1")
    assert story.settles("a1") == []
    story.starts("a2", begun=True)
    if hands_back:
        decisions = story.fails("a2", again=True)
    else:
        story.starts("a3")
        story.answers("a3", holding=False)
        decisions = story.is_silent("a2")
    assert breaks(decisions) == ["server_error"]
    assert decisions[-1] == Forget()


def _hands_back(story: Story, number: int, error: ErrorBody) -> list[Decision]:
    story.starts(f"a{number}")
    return story.fails(f"a{number}", again=True, error=error)


@pytest.mark.parametrize("code", ["upstream_failed", "upstream_timeout"])
def test_a_request_for_which_its_provider_fails_again_and_again_ends_with_that(story: Story, code: str) -> None:
    """It would else come back before all others, and no other would ever have its turn."""
    failed = UpstreamFailed(code=code).body()
    for number in range(FAILURES_MAX + 2):
        assert breaks(_hands_back(story, number, failed)) == []
    story.now += int(FAILING_S * 1000) - 1
    assert breaks(_hands_back(story, 50, failed)) == []
    story.now += 1
    story.starts("a60")
    story.starts("a61")
    decisions = story.fails("a60", again=True, error=failed)
    assert breaks(decisions) == [code]
    assert story.state == "failed"
    assert stop("a61", "done") in decisions
    assert story.starts("a62") == [stop("a62", "done")]


def test_a_few_failures_end_nothing_however_long_they_take(story: Story) -> None:
    for number in range(FAILURES_MAX - 1):
        assert breaks(_hands_back(story, number, UpstreamFailed().body())) == []
        story.now += int(FAILING_S * 1000)
    assert story.state == "open"


@pytest.mark.parametrize(
    "code", ["upstream_rate_limited", "upstream_quota_exhausted", "upstream_authentication_failed"]
)
def test_what_is_the_nodes_trouble_is_not_held_against_a_request(story: Story, code: str) -> None:
    for number in range(3 * FAILURES_MAX):
        assert breaks(_hands_back(story, number, ErrorBody(code=code, message="No."))) == []
        story.now += int(FAILING_S * 1000)
    assert story.state == "open"


# The client goes, or the time is over


def test_a_holder_whose_client_goes_stops_and_is_charged_for_what_it_had(story: Story) -> None:
    story.starts("a1")
    story.writes("a1", 1)
    assert story.conversation.hung_up() == [stop("a1", "cancelled")]
    assert story.writes("a1", 2) == [stop("a1", "cancelled")]
    assert story.finishes("a1", 3, cancelled=True) == [accepted("a1")]
    assert story.starts("a2") == [settle("a2")]


def test_others_keep_the_request_until_the_charge_of_a_cancelled_holder_is_safe(story: Story) -> None:
    """Were they let go at once and the holder died before it had published, nobody would publish its charge."""
    story.starts("a1")
    story.starts("a2")
    story.answers("a1", holding=True)
    assert story.conversation.hung_up() == [stop("a1", "cancelled")]
    assert story.starts("a2")[0] == park("a2")
    assert story.finishes("a1", cancelled=True) == [accepted("a1")]
    assert story.starts("a2") == [settle("a2")]
    assert story.settles("a1") == [stop("a2", "done"), Forget()]


def test_others_are_let_go_when_a_cancelled_holder_dies_with_its_charge(story: Story) -> None:
    story.starts("a1", begun=True)
    story.conversation.hung_up()
    assert story.starts("a2") == [park("a2"), *probe("a1")]
    assert story.is_silent("a1") == [stop("a1", "superseded"), stop("a2", "cancelled")]
    assert story.state == "cancelled"
    assert story.starts("a3") == [stop("a3", "cancelled")]
    assert story.finishes("a1", cancelled=True) == [stop("a1", "superseded")]
    assert story.settles("a2") == [Forget()]


def test_others_are_let_go_when_a_cancelled_holder_has_handed_back(story: Story) -> None:
    """It was drained before it heard ``go``, and so before it heard ``stop``."""
    story.starts("a1")
    story.conversation.hung_up()
    story.starts("a2")
    assert story.answers("a1", holding=False) == [stop("a2", "cancelled")]
    assert story.starts("a3") == [stop("a3", "cancelled")]


def test_a_cancelled_holder_that_lives_is_not_fenced(story: Story) -> None:
    story.starts("a1", begun=True)
    story.conversation.hung_up()
    story.starts("a2")
    assert story.writes("a1", 1) == [park("a2"), stop("a1", "cancelled")]
    assert story.is_silent("a1") == []
    assert story.finishes("a1", 2, cancelled=True) == [accepted("a1")]


def test_an_attempt_that_begins_beside_a_cancelled_holder_hands_back_so_that_it_can_settle(story: Story) -> None:
    story.starts("a1", begun=True)
    story.conversation.hung_up()
    assert story.starts("a2", begun=True) == [stop("a2", "again")]
    story.finishes("a1", cancelled=True)
    assert story.starts("a3") == [settle("a3")]


def test_an_attempt_that_begins_after_the_client_has_gone_acknowledges(story: Story) -> None:
    """``cancelled`` would make it charge what it had, which only a holder may; it must not keep the delivery either."""
    story.conversation.hung_up()
    assert story.starts("a1", begun=True) == [stop("a1", "done")]
    assert story.finishes("a1", 2) == [stop("a1", "done")]
    assert story.settles("a1") == [Forget()]


def test_a_waiting_request_whose_client_has_gone_never_runs(story: Story) -> None:
    assert story.conversation.hung_up() == []
    assert story.starts("a1") == [stop("a1", "cancelled")]


def test_a_request_past_its_deadline_breaks_and_stops(story: Story) -> None:
    story.starts("a1")
    decisions = story.conversation.expired()
    assert breaks(decisions) == ["deadline_exceeded"]
    assert told(decisions) == [Stop(attempt_id="a1", reason="expired")]
    assert story.finishes("a1") == [stop("a1", "expired")]
    assert story.starts("a2") == [stop("a2", "expired")]


def test_an_answer_that_the_gateway_cannot_go_on_with_breaks(story: Story) -> None:
    story.starts("a1")
    decisions = story.conversation.broken(AnswerTooLarge())
    assert breaks(decisions) == ["answer_too_large"]
    assert told(decisions) == [Stop(attempt_id="a1", reason="done")]


@pytest.mark.parametrize("state", get_args(State))
def test_a_request_ends_once(story: Story, state: State) -> None:
    story.starts("a1")
    match state:
        case "open":
            return
        case "answered":
            story.finishes("a1")
        case "failed":
            story.fails("a1")
        case "cancelled":
            story.conversation.hung_up()
        case "expired":
            story.conversation.expired()
        case _:
            third_death(story)
            story.conversation.verified(set(), NOW)
    assert story.state == state
    later = [
        *story.conversation.expired(),
        *story.conversation.hung_up(),
        *story.conversation.broken(AnswerTooLarge()),
        *story.writes("a1", 1),
        *story.finishes("a1"),
        *story.fails("a1"),
        *story.is_silent("a1"),
        *story.answers("a1", holding=False),
        *story.settles("a9"),
    ]
    assert not [decision for decision in later if isinstance(decision, Show | Complete | Break)]
    assert story.state == state


def test_a_stop_that_may_have_been_lost_is_told_again_until_the_end_is_accepted(story: Story) -> None:
    story.starts("a1")
    assert story.conversation.stop_again() == []
    story.conversation.hung_up()
    assert story.conversation.stop_again() == [stop("a1", "cancelled")]
    story.finishes("a1", cancelled=True)
    assert story.conversation.stop_again() == []
