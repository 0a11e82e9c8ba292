"""What the model server reads of inputs that are too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, normalizers
from tokenizers.processors import TemplateProcessing

from tests.model_ready import ready
from tests.model_room import ScriptedSteps, answered, room_of
from workernode.local.server.front.embeddings import answer
from workernode.local.server.front.problem import Problem
from workernode.local.server.words import Vectors

if TYPE_CHECKING:
    from workernode.local.server.words import Ready


def known(*, ends: bool) -> Ready:
    """A model that reads four tokens; ``ends``: its tokenizer ends each text with a special one."""
    told = ready(context_length=4)
    made = Tokenizer.from_str(told.tokenizer)
    end = made.token_to_id("</s>")
    if ends:
        made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return ready(context_length=4, tokenizer=made.to_str())


@pytest.mark.parametrize(
    ("given", "ends", "read"),
    [
        ("abcdef", True, "abc</s>"),
        ("abcdef", False, "abcd"),
        ("abcd</s>ef", False, "abcd"),
        ([257, 9, 8, 7, 6, 257], True, [257, 9, 8, 7]),
    ],
)
def test_an_input_is_cut_at_its_end_but_for_the_token_that_ends_each_text(given: Any, ends: bool, read: Any) -> None:
    model = known(ends=ends)
    steps = ScriptedSteps(Vectors(0, [bytes(16)]))
    room = room_of(model, steps)
    assert answered(answer, room, input=given)["usage"]["prompt_tokens"] == 4
    assert steps.asked[0].inputs == [room.tokens.of_text(read, special=False) if isinstance(read, str) else read]


@pytest.mark.parametrize("given", ["  ", ["a", "  "]])
def test_an_input_of_which_the_tokenizer_leaves_nothing_is_refused_as_an_empty_one(given: Any) -> None:
    told = ready()
    made = Tokenizer.from_str(told.tokenizer)
    made.normalizer = normalizers.Strip()
    steps = ScriptedSteps()
    with pytest.raises(Problem, match="There is no input, or an empty one") as raised:
        answered(answer, room_of(ready(tokenizer=made.to_str()), steps), input=given)
    assert (raised.value.param, steps.asked) == ("input", [])


def test_a_too_long_input_is_refused_by_its_own_name() -> None:
    room = room_of(known(ends=False), ScriptedSteps(), "--embedding-input", "refuse")
    with pytest.raises(Problem, match="your input resulted in 5 tokens") as raised:
        answered(answer, room, input="abcde")
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "input")
