"""What completions tell of their tokens, by steps whose words are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.model_ready import ready
from tests.model_room import ScriptedSteps, answered, room_of
from workernode.local.server.front.completions import answer
from workernode.local.server.front.problem import Problem
from workernode.local.server.words import Logprob, Piece, PromptLogprobs

if TYPE_CHECKING:
    from workernode.local.server.words import Ready

THE, FOX, C3, BC, A, BYTE, BEGIN = range(1, 8)


def of_pieces() -> Ready:
    """A tokenizer of SentencePiece's kind, whose texts begin without their blank."""
    pieces = {"<unk>": 0, "\u2581The": THE, "\u2581fox": FOX, "<0xC3>": C3, "<0xBC>": BC, "a": A, "<0x61>": BYTE}
    made = Tokenizer(models.BPE(pieces, [], byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens([AddedToken("<s>", special=True)])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return ready(tokenizer=made.to_str())


def said(text: str, token: int, reason: str | None = None) -> Piece:
    return Piece(0, 0, text, 1, [Logprob(token, -1.0)], reason)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "echo", "words", "expected"),
    [
        ([THE], False, [said(" fox", FOX), said("", C3), said("ü", BC), said(" The", THE, "stop")], [0, 4, 5, 5]),
        ([BEGIN], False, [said("The", THE), said(" fox", FOX), said(" fox", FOX, "stop")], [0, 3, 7]),
        (
            [BEGIN, THE, FOX],
            True,
            [
                PromptLogprobs(0, [Logprob(BEGIN, None), Logprob(THE, -1.0), Logprob(FOX, -1.0)]),
                said("", FOX),
                said(" fox fox", FOX, "stop"),
            ],
            [0, 0, 3, 7, 11],
        ),
    ],
    ids=["after_a_text", "at_the_begin", "echoed"],
)
def test_tokens_stand_where_their_characters_do(
    prompt: list[int], echo: bool, words: list[Any], expected: list[int], stream: bool
) -> None:
    room = room_of(of_pieces(), ScriptedSteps(*words))
    found = answered(answer, room, prompt=prompt, echo=echo, logprobs=0, stream=stream)
    chunks = found if stream else [found]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [at for choice in choices for at in choice["logprobs"]["text_offset"]] == expected


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ([], {" fox": -3.0}),
        ([(THE, -1.0)], {" The": -1.0, " fox": -3.0}),
        ([(FOX, -3.0), (THE, -4.0)], {" fox": -3.0, " The": -4.0}),
        ([(BYTE, -0.5), (A, -2.0)], {"a": -0.5, " fox": -3.0}),
    ],
)
def test_the_token_itself_is_among_the_likeliest_and_of_two_with_one_name_the_likelier_is_told(
    top: list[tuple[int, float]], expected: dict[str, float]
) -> None:
    word = Piece(0, 0, " fox", 1, [Logprob(FOX, -3.0, top)], "stop")
    found = answered(answer, room_of(of_pieces(), ScriptedSteps(word)), prompt="The", logprobs=len(top))
    assert found["choices"][0]["logprobs"]["top_logprobs"] == [expected]


def test_a_completion_that_names_no_limit_has_sixteen_tokens_and_no_more_than_there_is_room_for() -> None:
    for prompt, tokens in ((1, 16), (990, 10)):
        steps = ScriptedSteps(said("", FOX, "length"))
        answered(answer, room_of(of_pieces(), steps), prompt=[THE] * prompt)
        assert steps.asked[0].sampling.max_tokens == tokens


def test_a_too_long_prompt_is_refused_by_its_own_name() -> None:
    with pytest.raises(Problem, match="your prompt resulted in 1000 tokens") as raised:
        answered(answer, room_of(of_pieces(), ScriptedSteps()), prompt=[THE] * 1000)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("token", ["1000", "-1", "+1", "1.0", "a", "", "٣", "9" * 5000])
def test_a_bias_is_for_a_token_that_the_model_has(token: str) -> None:
    with pytest.raises(Problem, match="logit_bias names tokens, from 0 to 999") as raised:
        answered(answer, room_of(of_pieces(), ScriptedSteps()), prompt=[THE], logit_bias={token: 1})
    assert raised.value.param == "logit_bias"
    steps = ScriptedSteps(said("", FOX, "length"))
    answered(answer, room_of(of_pieces(), steps), prompt=[THE], logit_bias={"999": 1, "0": -1})
    assert steps.asked[0].sampling.logit_bias == {999: 1.0, 0: -1.0}


@pytest.mark.parametrize(("fields", "seed"), [({}, 7), ({"seed": 0}, 0), ({"seed": None}, 7)])
def test_the_seed_that_is_set_is_for_requests_without_one(fields: Any, seed: int) -> None:
    steps = ScriptedSteps(said("", FOX, "length"))
    answered(answer, room_of(of_pieces(), steps, "--seed", "7"), prompt=[THE], **fields)
    assert steps.asked[0].sampling.seed == seed


@pytest.mark.parametrize(
    ("prompt", "asked", "given"), [(999, 1, 1), (999, 9, 1), (999, None, 1), (999, 0, 0), (1000, 0, 0)]
)
def test_the_last_place_of_the_context_may_be_taken(prompt: int, asked: int | None, given: int) -> None:
    steps = ScriptedSteps(said("", FOX, "length"))
    answered(answer, room_of(of_pieces(), steps), prompt=[THE] * prompt, max_tokens=asked)
    assert steps.asked[0].sampling.max_tokens == given


@pytest.mark.parametrize(
    ("asked", "given"), [(None, ()), ("", ()), ([], ()), ("ab", ("ab",)), (["a", "", "\n"], ("a", "\n")), ([""], ())]
)
def test_stop_strings_are_one_or_several_and_an_empty_one_is_none(asked: Any, given: tuple[str, ...]) -> None:
    steps = ScriptedSteps(said("", FOX, "length"))
    answered(answer, room_of(of_pieces(), steps), prompt=[THE], stop=asked)
    assert steps.asked[0].sampling.stop == given


@pytest.mark.parametrize("asked", [True, False])
def test_all_chunks_before_the_usage_say_that_it_is_to_come_and_else_none_names_it(asked: bool) -> None:
    room = room_of(of_pieces(), ScriptedSteps(said(" fox", FOX), said(" fox", FOX, "stop")))
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = answered(answer, room, prompt=[THE], stream=True, **options)
    if asked:
        assert chunks.pop()["usage"]["completion_tokens"] == 2
    assert [chunk.get("usage", "absent") for chunk in chunks] == [None if asked else "absent"] * len(chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " fox fox"
