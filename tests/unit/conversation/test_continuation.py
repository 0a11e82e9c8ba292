"""Another attempt goes on with a stream of plain text."""

from __future__ import annotations

import msgspec
import pytest

from gateway.requests.decisions import Decision, Show
from tests.unit.conversation.story import COMPLETE, Story, accepted, breaks, told
from wire.control import Go, Stop


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


@pytest.mark.parametrize("continues", [True, False])
def test_a_piece_without_a_chunk_says_nothing(*, continues: bool) -> None:
    story = interrupted()
    assert story.writes("a1", 3, b"") == []
    story.starts("a2", continues=continues)
    story.is_silent("a1")
    assert story.writes("a2", 1, b"") == []
    assert story.state == "open"


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
