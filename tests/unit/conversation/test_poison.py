"""A request that brings down who works on it."""

from __future__ import annotations

import pytest

from gateway.requests.decisions import Verify
from tests.unit.conversation.story import DIED, NOW, Story, accepted, breaks, go, node, park, stop, third_death, told
from wire.control import Stop


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


def test_nodes_that_are_heard_again_never_died(story: Story) -> None:
    """They were out of hearing, as after a restart of the broker: the request goes on."""
    story.starts("a1")
    third_death(story)
    assert go("a4", number=4) in story.conversation.verified({node("a1"), node("a2")}, NOW)
    assert story.conversation.dead == {node("a3")}


def test_an_engine_that_dies_after_two_silent_ones_is_not_the_end_of_a_request_whose_nodes_live(story: Story) -> None:
    story.begins("a1")
    for silent, following in (("a1", "a2"), ("a2", "a3")):
        story.starts(following)
        story.is_silent(silent)
        story.begins(following)
    decisions = story.fails("a3", again=True, error=DIED)
    assert decisions == [accepted("a3"), Verify(frozenset({node("a1"), node("a2")}))]
    story.starts("a4")
    assert go("a4", number=4) in story.conversation.verified({node("a1"), node("a2")}, NOW)
    assert story.conversation.deaths == 1


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
