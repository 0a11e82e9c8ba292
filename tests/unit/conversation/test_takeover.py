"""Two attempts have one request: who waits, who takes over, and whose death it is."""

from __future__ import annotations

from gateway.requests.decisions import Probe, Show
from tests.unit.conversation.story import COMPLETE, Story, accepted, breaks, go, node, park, probe, stop


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


def test_a_holder_that_asks_again_lives(story: Story) -> None:
    # Found by a simulation that loses every seventh message: its `go` was lost, and so was what it was asked.
    story.starts("a1")
    story.starts("a2")
    assert story.starts("a1") == [park("a2"), go("a1")]
    assert story.is_silent("a1") == []
    assert not story.conversation.dead


def test_a_holder_that_says_that_it_begins_lives(story: Story) -> None:
    story.starts("a1")
    story.starts("a2")
    story.answers("a1", holding=True)
    story.fails("a1", again=True)
    assert story.starts("a3") == probe("a2")
    assert story.starts("a2", begun=True) == [park("a3")]
    assert story.is_silent("a2") == []


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


def test_the_last_word_of_one_that_was_fenced_does_not_break_the_answer_of_the_next(story: Story) -> None:
    """Its node took its gateway for dead, and says so late; that it acknowledged the request may have been lost."""
    story.starts("a1")
    story.starts("a2")
    story.is_silent("a1")
    story.writes("a2", 1)
    assert story.settles("a1") == []
    assert story.finishes("a2", 2) == [COMPLETE, accepted("a2")]
