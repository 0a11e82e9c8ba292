"""A request and its one attempt, or one after the other: pieces, holes, and what is handed back."""

from __future__ import annotations

from gateway.requests.decisions import Break, Forget, Show
from tests.unit.conversation.story import COMPLETE, DEADLINE, ERROR, Story, accepted, breaks, go, stop, told
from wire.control import Go, Stop

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
