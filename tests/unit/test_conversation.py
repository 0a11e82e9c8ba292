"""What happens to one request, told from its gateway's side. The order of words in a test is the order in time."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from gateway.conversation import (
    Break,
    Complete,
    Conversation,
    Decision,
    Forget,
    Probe,
    Show,
    State,
    Tell,
    Verify,
)
from wire.control import Accepted, AreYouAlive, Go, Park, Settle, Stop, StopReason, Word
from wire.errors import AnswerTooLarge, EngineDied, ErrorBody
from wire.piece import Alive, Content, Failed, Finished, Settled, Started
from wire.usage import Usage

REQUEST = "req_1"
NOW = 1_000_000
DEADLINE = NOW + 60_000
CHARGE = b'{"id":"charge-req_1"}'
USAGE = Usage(prompt_tokens=1, completion_tokens=2)
ERROR = ErrorBody(code="upstream_refused", message="No.")
DIED = EngineDied().body()


class Story:
    """A conversation with short words: attempt ``a1`` runs on node ``node-a1``."""

    def __init__(self, *, plain: bool = False, keep_text: bool = False) -> None:
        self.conversation = Conversation(REQUEST, DEADLINE, plain=plain, keep_text=keep_text)
        self.now = NOW

    @property
    def state(self) -> State:
        return self.conversation.state

    def starts(self, attempt: str, *, begun: bool = False, continues: bool = False) -> list[Decision]:
        piece = Started(attempt_id=attempt, request_id=REQUEST, begun=begun, continues=continues)
        return self.conversation.started(node(attempt), piece, self.now)

    def writes(self, attempt: str, number: int, data: bytes = b"text\n") -> list[Decision]:
        return self.conversation.content(node(attempt), Content(attempt_id=attempt, number=number, data=data))

    def finishes(self, attempt: str, number: int = 1, *, cancelled: bool = False) -> list[Decision]:
        piece = Finished(
            attempt_id=attempt, number=number, usage=USAGE, charge=CHARGE, finish_reason="stop", cancelled=cancelled
        )
        return self.conversation.finished(node(attempt), piece)

    def fails(self, attempt: str, *, again: bool = False, error: ErrorBody = ERROR) -> list[Decision]:
        piece = Failed(attempt_id=attempt, number=1, error=error, again=again)
        return self.conversation.failed(node(attempt), piece, self.now)

    def begins(self, attempt: str, *, continues: bool = False) -> None:
        """It asks, is told ``go``, and says that its engine works."""
        assert isinstance(told(self.starts(attempt, continues=continues))[0], Go)
        assert self.starts(attempt, begun=True, continues=continues) == []

    def answers(self, attempt: str, *, holding: bool) -> list[Decision]:
        return self.conversation.alive(Alive(attempt_id=attempt, holding=holding), self.now)

    def settles(self, attempt: str) -> list[Decision]:
        return self.conversation.settled(Settled(attempt_id=attempt, request_id=REQUEST))

    def is_silent(self, attempt: str) -> list[Decision]:
        return self.conversation.unanswered(attempt, self.now)


def node(attempt: str) -> str:
    return f"node-{attempt}"


def go(attempt: str, number: int = 1, *, alone: bool = False) -> Tell:
    return Tell(node(attempt), Go(attempt_id=attempt, number=number, remaining_ms=60_000, alone=alone))


def stop(attempt: str, reason: StopReason) -> Tell:
    return Tell(node(attempt), Stop(attempt_id=attempt, reason=reason))


def park(attempt: str) -> Tell:
    return Tell(node(attempt), Park(attempt_id=attempt))


def accepted(attempt: str) -> Tell:
    return Tell(node(attempt), Accepted(attempt_id=attempt))


def settle(attempt: str) -> Tell:
    return Tell(node(attempt), Settle(attempt_id=attempt, charge=CHARGE))


def probe(attempt: str) -> list[Decision]:
    return [Tell(node(attempt), AreYouAlive(attempt_id=attempt)), Probe(attempt)]


def told(decisions: list[Decision]) -> list[Word]:
    return [decision.word for decision in decisions if isinstance(decision, Tell)]


def breaks(decisions: list[Decision]) -> list[str]:
    return [decision.error.code for decision in decisions if isinstance(decision, Break)]


@pytest.fixture
def story() -> Story:
    return Story()


COMPLETE = Complete("stop", USAGE)


# The plain way


def test_a_request_is_begun_answered_accepted_and_forgotten(story: Story) -> None:
    assert story.starts("a1") == [go("a1")]
    assert story.writes("a1", 1, b"He") == [Show(b"He")]
    assert story.writes("a1", 2, b"llo") == [Show(b"llo")]
    assert story.finishes("a1", 3) == [COMPLETE, accepted("a1")]
    assert story.state == "answered"
    assert story.settles("a1") == [Forget()]


def test_a_holder_that_says_it_has_begun_needs_no_word(story: Story) -> None:
    assert story.starts("a1") == [go("a1")]
    assert story.starts("a1", begun=True) == []
    assert story.writes("a1", 1) == [Show(b"text\n")]


def test_an_attempt_that_has_begun_on_its_own_needs_no_word(story: Story) -> None:
    assert story.starts("a1", begun=True) == []
    assert story.conversation.holder == ("a1", "node-a1")
    assert story.writes("a1", 1) == [Show(b"text\n")]


def test_a_repeated_question_gets_the_same_number_and_the_time_left_now(story: Story) -> None:
    story.starts("a1")
    story.now += 1500
    assert told(story.starts("a1")) == [Go(attempt_id="a1", number=1, remaining_ms=58_500)]
    story.now = DEADLINE + 5
    assert told(story.starts("a1")) == [Go(attempt_id="a1", number=1, remaining_ms=0)]


def test_a_repeated_piece_is_shown_once(story: Story) -> None:
    story.starts("a1")
    assert story.writes("a1", 1) == [Show(b"text\n")]
    assert story.writes("a1", 1) == []


def test_a_repeated_end_is_accepted_again_and_told_to_the_client_once(story: Story) -> None:
    story.starts("a1")
    assert story.finishes("a1") == [COMPLETE, accepted("a1")]
    assert story.finishes("a1") == [accepted("a1")]


def test_an_error_is_told_to_the_client_and_its_end_accepted(story: Story) -> None:
    story.starts("a1")
    assert story.fails("a1") == [accepted("a1"), Break(ERROR)]
    assert story.state == "failed"
    assert story.fails("a1") == [accepted("a1")]
    assert story.settles("a1") == [Forget()]


# A piece is missing


def test_an_answer_with_a_hole_breaks(story: Story) -> None:
    story.starts("a1")
    story.writes("a1", 1)
    decisions = story.writes("a1", 3)
    assert breaks(decisions) == ["stream_interrupted"]
    assert told(decisions) == [Stop(attempt_id="a1", reason="done")]


def test_an_answer_that_lacks_its_last_piece_is_not_whole(story: Story) -> None:
    story.starts("a1")
    story.writes("a1", 1)
    decisions = story.finishes("a1", 3)
    assert breaks(decisions) == ["stream_interrupted"]
    assert accepted("a1") not in decisions


# Handed back


def test_a_request_handed_back_waits_for_the_next_attempt(story: Story) -> None:
    story.starts("a1")
    assert story.fails("a1", again=True) == [accepted("a1")]
    assert story.conversation.holder is None
    assert story.starts("a2") == [go("a2", number=2)]


def test_a_node_that_hands_back_and_misses_the_word_hears_it_again(story: Story) -> None:
    """Anything else would make it keep a delivery that nobody else has."""
    story.starts("a1")
    story.fails("a1", again=True)
    assert story.fails("a1", again=True) == [accepted("a1")]
    story.starts("a2")
    assert story.fails("a1", again=True) == [accepted("a1")]
    story.finishes("a2")
    assert story.fails("a1", again=True) == [accepted("a1")]


def test_a_late_question_of_an_attempt_that_handed_back_does_not_begin_it_again(story: Story) -> None:
    story.starts("a1", begun=True)
    story.fails("a1", again=True)
    assert story.starts("a1", begun=True) == [accepted("a1")]
    assert story.conversation.holder is None
    assert story.conversation.attempts == 1


def test_a_request_handed_back_after_text_was_shown_breaks(story: Story) -> None:
    story.starts("a1")
    story.writes("a1", 1)
    decisions = story.fails("a1", again=True)
    assert decisions[0] == accepted("a1")
    assert breaks(decisions) == ["stream_interrupted"]
    assert story.starts("a2") == [stop("a2", "done")]


# Two attempts


def test_a_second_attempt_waits_until_the_first_is_judged(story: Story) -> None:
    story.starts("a1")
    assert story.starts("a2") == probe("a1")
    assert story.starts("a2") == []
    assert story.answers("a1", holding=True) == [park("a2")]


def test_text_of_the_holder_proves_that_it_lives(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    assert story.writes("a1", 1) == [park("a2"), Show(b"text\n")]
    assert story.is_silent("a1") == []
    assert not story.conversation.dead


def test_a_silent_holder_is_fenced_and_the_second_attempt_begins(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    assert story.is_silent("a1") == [stop("a1", "superseded"), go("a2", number=2)]
    assert story.conversation.dead == {node("a1")}
    assert story.writes("a1", 1, b"late") == [stop("a1", "superseded")]
    assert story.starts("a1") == [stop("a1", "superseded")]
    assert story.finishes("a1") == [stop("a1", "superseded")]
    assert story.conversation.holder == ("a2", "node-a2")


def test_a_fenced_attempt_never_begins_again_even_when_nobody_else_has(story: Story) -> None:
    story.starts("a1")
    story.starts("a2", begun=True)
    assert story.is_silent("a1") == [stop("a1", "superseded")]
    assert story.starts("a1") == [stop("a1", "superseded")]
    assert story.conversation.holder is None
    assert story.starts("a3") == [go("a3", number=2)]


def test_a_holder_that_does_not_have_it_any_more_makes_room_without_a_death(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    assert story.answers("a1", holding=False) == [go("a2", number=2)]
    assert not story.conversation.dead


def test_a_holder_that_dies_after_text_was_shown_breaks_the_stream(story: Story) -> None:
    story.starts("a1")
    story.writes("a1", 1)
    story.starts("a2")
    decisions = story.is_silent("a1")
    assert breaks(decisions) == ["stream_interrupted"]
    assert stop("a2", "done") in decisions


def test_of_several_that_wait_the_one_that_asked_last_takes_over(story: Story) -> None:
    """The others may have died while they were parked; whoever asks lives."""
    story.starts("a1")
    story.starts("a2")
    story.starts("a3")
    story.starts("a2")
    assert story.answers("a1", holding=False) == [go("a2", number=2), park("a3")]


def test_an_attempt_that_began_beside_a_holder_hands_back_and_is_told_so_each_time(story: Story) -> None:
    """Were it told ``superseded`` by its second piece, it would keep a delivery that nobody else has."""
    story.starts("a1")
    assert story.starts("a2", begun=True) == [stop("a2", "again"), *probe("a1")]
    assert story.writes("a2", 1) == [stop("a2", "again")]
    assert story.finishes("a2", 2) == [stop("a2", "again")]
    assert story.is_silent("a1") == [stop("a1", "superseded")]
    assert story.finishes("a2", 2) == [stop("a2", "again")]


def test_an_earlier_question_does_not_shorten_the_time_to_answer_a_later_one(story: Story) -> None:
    story.starts("a1")
    assert Probe("a1") in story.starts("a2")
    story.answers("a1", holding=True)
    assert Probe("a1") in story.starts("a2")
    assert story.is_silent("a1") == []  # judged for the first question
    assert story.conversation.holder == ("a1", "node-a1")
    assert go("a2", number=2) in story.is_silent("a1")  # judged for the second


def test_a_probe_of_an_earlier_holder_that_is_judged_late_does_not_hide_the_death_of_the_next(story: Story) -> None:
    """The gateway puts off its judgement while it does not hear its own echo, so judgements may change their order."""
    story.starts("a1")
    assert Probe("a1") in story.starts("a2")
    assert go("a2", number=2) in story.answers("a1", holding=False)
    assert Probe("a2") in story.starts("a3")
    assert story.is_silent("a2") == [stop("a2", "superseded"), go("a3", number=3)]
    assert story.is_silent("a1") == []


def test_an_attempt_that_hands_back_before_it_began_is_not_chosen(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    story.starts("a3")
    assert story.answers("a3", holding=False) == []
    assert story.is_silent("a1") == [stop("a1", "superseded"), go("a2", number=2)]


def test_a_question_heard_once_more_after_its_attempt_handed_back_is_none(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    assert story.answers("a2", holding=False) == []
    assert story.starts("a2") == [stop("a2", "again")]
    assert story.is_silent("a1") == [stop("a1", "superseded")]


def test_whoever_asked_just_now_is_known_to_live_when_it_is_told_to_begin(story: Story) -> None:
    """It is not asked for another word before its engine begins, so that its death counts from the ``go`` on."""
    story.starts("a1")
    story.starts("a2")
    assert go("a2", number=2) in story.answers("a1", holding=False)
    story.starts("a3")
    story.is_silent("a2")
    assert story.conversation.dead == {node("a2")}


def parked_heir(story: Story) -> None:
    """``a2`` was parked beside ``a1``, asked again, and takes over from it."""
    story.starts("a1")
    story.starts("a2")
    assert story.answers("a1", holding=True) == [park("a2")]
    story.starts("a2")
    assert go("a2", number=2) in story.answers("a1", holding=False)


def test_the_death_of_an_attempt_that_was_parked_does_not_count_before_it_says_that_it_begins(story: Story) -> None:
    """It may have died while it was parked, which is nobody's fault."""
    parked_heir(story)
    story.starts("a3")
    story.is_silent("a2")
    assert not story.conversation.dead


def test_the_death_of_an_attempt_that_was_parked_counts_once_it_says_that_it_begins(story: Story) -> None:
    parked_heir(story)
    assert story.starts("a2", begun=True) == []
    story.starts("a3")
    story.is_silent("a2")
    assert story.conversation.dead == {node("a2")}


@pytest.mark.parametrize("begun", [False, True])
def test_three_silent_deaths_are_poison(story: Story, begun: bool) -> None:
    """Whether the first one has begun on its own or was told to."""
    story.starts("a1", begun=begun)
    decisions = third_death(story)
    assert decisions == [stop("a3", "superseded"), park("a4"), Verify(frozenset(map(node, ["a1", "a2", "a3"])))]
    assert story.starts("a5") == [park("a5")]  # nobody gets it until the deaths are certain
    decisions = story.conversation.verified(set(), NOW)
    assert breaks(decisions) == ["request_poisonous"]
    assert told(decisions) == [Stop(attempt_id=attempt, reason="poison") for attempt in ("a4", "a5")]
    assert story.starts("a6") == [stop("a6", "poison")]


def third_death(story: Story) -> list[Decision]:
    """``a1`` has it, and is followed by ``a2`` and ``a3``. What is decided when all three are silent; ``a4`` waits."""
    story.starts("a2")
    assert go("a2", number=2) in story.is_silent("a1")
    story.starts("a3")
    assert go("a3", number=3, alone=True) in story.is_silent("a2")
    assert story.starts("a3", begun=True) == []
    story.starts("a4")
    return story.is_silent("a3")


def test_nodes_that_are_heard_again_never_died(story: Story) -> None:
    """They were out of hearing, as after a restart of the broker: the request goes on."""
    story.starts("a1")
    third_death(story)
    assert go("a4", number=4) in story.conversation.verified({node("a1"), node("a2")}, NOW)
    assert story.conversation.dead == {node("a3")}


def test_deaths_that_become_certain_after_the_end_change_nothing(story: Story) -> None:
    story.starts("a1")
    third_death(story)
    assert breaks(story.conversation.expired()) == ["deadline_exceeded"]
    assert story.conversation.verified(set(), NOW) == []


def test_the_last_try_runs_alone_and_counts_only_once_it_says_that_it_begins(story: Story) -> None:
    """It may have to wait for another one like it, and die meanwhile for nothing that it did."""
    story.starts("a1")
    story.starts("a2")
    story.is_silent("a1")
    story.starts("a3")
    assert go("a3", number=3, alone=True) in story.is_silent("a2")
    assert story.starts("a3") == [go("a3", number=3, alone=True)]  # it asks again: another one runs alone there
    story.starts("a4")
    assert go("a4", number=4, alone=True) in story.is_silent("a3")


def test_the_third_engine_that_dies_of_a_request_is_its_end_though_all_nodes_live(story: Story) -> None:
    story.begins("a1")
    assert story.fails("a1", again=True, error=DIED) == [accepted("a1")]
    assert story.fails("a1", again=True, error=DIED) == [accepted("a1")]  # said again: its verdict was lost
    story.begins("a2")
    story.fails("a2", again=True)  # this one failed, and nobody died
    story.begins("a3")
    story.fails("a3", again=True, error=DIED)
    assert story.starts("a4") == [go("a4", number=4, alone=True)]
    assert breaks(story.fails("a4", again=True, error=DIED)) == ["request_poisonous"]
    assert story.state == "poison"
    assert story.starts("a4b") == [stop("a4b", "poison")]


def test_attempts_that_died_while_they_were_parked_are_no_poison_however_many(story: Story) -> None:
    story.starts("a1")
    parked = [f"a{number}" for number in range(2, 10)]
    for attempt in parked:
        story.starts(attempt)
    story.answers("a1", holding=True)
    story.starts("a10")
    story.is_silent("a1")  # judged for the first question
    for silent in ["a1", "a10", *reversed(parked)]:
        story.is_silent(silent)
        story.starts(f"beside-{silent}", begun=True)  # somebody comes, and is sent away
    assert len(story.conversation.dead) == 2  # of those that had asked just before
    assert story.conversation.holder is not None
    assert story.conversation.holder[0] == "beside-a2"


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


# Another attempt goes on with a stream of plain text


def chunk(content: str, finish: str | None = None, **delta: str) -> bytes:
    fields = {**delta, **({"content": content} if content else {})}
    return msgspec.json.encode({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}) + b"\n"


USAGE_CHUNK = b'{"choices":[],"usage":{"completion_tokens":2}}\n'
FILTER_CHUNK = b'{"choices":[],"prompt_filter_results":[]}\n'


def prefix_of(decisions: list[Decision]) -> str | None:
    [found] = [word.prefix for word in told(decisions) if isinstance(word, Go)]
    return found


def interrupted(*, plain: bool = True, keep_text: bool = True) -> Story:
    """``a1`` shows ``Hello``; the test tells how it ends."""
    story = Story(plain=plain, keep_text=keep_text)
    story.begins("a1")
    assert story.writes("a1", 1, chunk("", role="assistant")) == [Show(chunk("", role="assistant"))]
    assert story.writes("a1", 2, chunk("Hello")) == [Show(chunk("Hello"))]
    return story


def test_an_engine_that_can_continue_is_given_what_was_shown() -> None:
    story = interrupted()
    story.starts("a2", continues=True)
    assert prefix_of(story.is_silent("a1")) == "Hello"
    story.starts("a2", begun=True, continues=True)
    assert story.writes("a2", 1, chunk("", role="assistant")) == []  # who speaks was said
    assert story.writes("a2", 2, chunk(", world")) == [Show(chunk(", world"))]
    assert story.writes("a2", 3, chunk("", "stop")) == [Show(chunk("", "stop"))]
    assert story.finishes("a2", 4) == [COMPLETE, accepted("a2")]


def test_a_prefix_is_told_again_as_it_was() -> None:
    story = interrupted()
    story.starts("a2", continues=True)
    story.is_silent("a1")
    assert prefix_of(story.starts("a2", continues=True)) == "Hello"


def test_each_further_attempt_continues_after_all_that_was_shown() -> None:
    story = interrupted()
    story.starts("a2", continues=True)
    story.is_silent("a1")
    story.writes("a2", 1, chunk(", world"))
    story.starts("a3", continues=True)
    assert prefix_of(story.is_silent("a2")) == "Hello, world"


def test_an_engine_that_cannot_continue_repeats_and_only_what_is_new_is_shown() -> None:
    story = interrupted()
    story.starts("a2")
    assert prefix_of(story.is_silent("a1")) is None
    assert story.writes("a2", 1, chunk("", role="assistant")) == []
    assert story.writes("a2", 2, chunk("Hel")) == []
    assert story.writes("a2", 3, chunk("lo, wo")) == [Show(chunk(", wo"))]
    assert story.writes("a2", 4, chunk("rld")) == [Show(chunk("rld"))]


def test_an_engine_that_began_on_its_own_repeats_although_it_could_continue() -> None:
    story = interrupted()
    assert story.fails("a1", again=True) == [accepted("a1")]
    assert story.starts("a2", begun=True, continues=True) == []
    assert story.writes("a2", 1, chunk("Hello, world")) == [Show(chunk(", world"))]


def test_text_that_was_not_kept_is_repeated() -> None:
    story = interrupted(keep_text=False)
    story.starts("a2", continues=True)
    assert prefix_of(story.is_silent("a1")) is None


@pytest.mark.parametrize("second", ["HELLO, world", "Help", "Hellas!"])
def test_an_attempt_that_says_something_else_breaks_and_nothing_of_it_is_shown(second: str) -> None:
    story = interrupted()
    story.starts("a2")
    story.is_silent("a1")
    decisions = story.writes("a2", 1, chunk(second) + chunk("", "stop"))
    assert breaks(decisions) == ["stream_interrupted"]
    assert not [decision for decision in decisions if isinstance(decision, Show)]
    assert told(decisions) == [Stop(attempt_id="a2", reason="done")]


def test_an_attempt_that_ends_before_it_has_repeated_everything_breaks() -> None:
    story = interrupted()
    story.starts("a2")
    story.is_silent("a1")
    story.writes("a2", 1, chunk("Hell"))
    assert breaks(story.finishes("a2", 2)) == ["stream_interrupted"]


def test_a_finish_reason_and_a_usage_are_shown_once() -> None:
    story = interrupted()
    story.writes("a1", 3, FILTER_CHUNK)
    story.writes("a1", 4, chunk("", "stop"))
    story.starts("a2", continues=True)
    assert prefix_of(story.is_silent("a1")) is None  # nothing is left to generate
    assert story.writes("a2", 1, FILTER_CHUNK + chunk("Hello") + chunk("", "stop")) == []
    assert story.writes("a2", 2, USAGE_CHUNK) == [Show(USAGE_CHUNK)]
    story.starts("a3")
    story.is_silent("a2")
    assert story.writes("a3", 1, chunk("Hello", "stop") + USAGE_CHUNK) == []
    assert story.finishes("a3", 2) == [COMPLETE, accepted("a3")]


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_not_one_choice_of_plain_text_is_not_continued(plain: bool) -> None:
    story = interrupted(plain=plain)
    if plain:
        story.writes("a1", 3, chunk("", reasoning_content="Hm"))
    story.starts("a2", continues=True)
    assert breaks(story.is_silent("a1")) == ["stream_interrupted"]
