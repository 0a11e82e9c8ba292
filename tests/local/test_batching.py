"""Rows that join and leave between steps say what they would say alone, and what transformers' generate says."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch

import workernode.local.server.steps.steps
from tests.local.batch_of import GREEDY, Answers, answers, loaded, prompts
from tests.local.operations import Operations
from workernode.local.server.front.grammars import of_response_format
from workernode.local.server.words import Refusal, Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from workernode.local.server.steps.model import Model


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Model:
    return loaded(tiny_folder)


def settings_of(number: int) -> Sampling:
    """All settings, mixed."""
    return Sampling(
        max_tokens=60,
        temperature=[0.0, 1.0, 0.7, 1.3][number % 4],
        top_p=[1.0, 0.9, 0.5][number % 3],
        top_k=[0, 0, 5, 40, 200][number % 5],
        min_p=[0.0, 0.05][number % 2],
        seed=number,
        presence_penalty=[0.0, 0.5, -1.0][number % 3],
        frequency_penalty=[0.0, 0.3][number % 2],
        repetition_penalty=[1.0, 1.2][number % 2],
        logit_bias={5: 3.0} if number % 7 == 0 else {},
        stop=("e",) if number % 6 == 0 else (),
        top_logprobs=[None, 0, 3][number % 3],
        ignore_eos=number % 8 == 0,
        grammar=of_response_format({"type": "json_object"}) if number % 9 == 4 else None,
    )


def told(found: Answers, number: int) -> list[Any]:
    """All that a request got, to the last bit."""
    pieces = [(piece.choice, piece.text, piece.logprobs, piece.finish_reason) for piece in found.pieces[number]]
    prompts_told = [each.logprobs for each in found.others if each.request == number]
    return [*sorted(pieces, key=lambda piece: piece[0]), prompts_told]


def test_greedy_text_equals_generate_alone_and_in_a_batch(model: Model, tiny_folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = AutoModelForCausalLM.from_pretrained(tiny_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    asked = [(prompt, GREEDY) for prompt in prompts(12)]
    together = answers(model, *asked)
    for number, (prompt, _) in enumerate(asked):
        made = reference.generate(
            torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0].tolist()
        expected = tokenizer.decode(made[len(prompt) :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert together.text(number) == expected
        assert answers(model, (prompt, GREEDY)).text(0) == expected


def test_32_choices_equal_their_solo_runs_to_the_last_bit_in_nearly_as_many_steps(model: Model) -> None:
    assert model.ready.row_invariant
    asked = [(number, prompt, settings_of(number)) for number, prompt in enumerate(prompts(29))]
    more: dict[int, Any] = {1: {"choices": 2}, 2: {"prompt_logprobs": True}, 3: {"choices": 3}}
    together, solo_steps = Answers(model), []
    for number, prompt, sampling in asked:
        together.submit(number, prompt, sampling, **more.get(number, {}))
    together.finish()
    for number, prompt, sampling in asked:
        alone = Answers(model)
        alone.submit(number, prompt, sampling, **more.get(number, {}))
        assert told(alone.finish(), number) == told(together, number)
        solo_steps.append(alone.count)
    assert together.count <= 1.2 * max(solo_steps)
    assert together.text(4).startswith("{")


def test_long_prompts_that_go_on_by_turns_change_nothing(tiny_folder: Path) -> None:
    model = loaded(tiny_folder, "--prefill-tokens", "32")
    luck = random.Random(2)
    asked = [
        ([luck.randrange(3, 300) for _ in range(luck.choice([9, 40, 200, 400]))], settings_of(number))
        for number in range(12)
    ]
    found = Answers(model)
    for number, (prompt, sampling) in enumerate(asked):
        found.submit(number, prompt, sampling, prompt_logprobs=number % 3 == 0)
        found.step()
    found.finish()
    for number, (prompt, sampling) in enumerate(asked):
        alone = Answers(model)
        alone.submit(number, prompt, sampling, prompt_logprobs=number % 3 == 0)
        assert told(alone.finish(), number) == told(found, number)


class _Counting:
    """A forward pass that counts tokens."""

    def __init__(self, forward: Any) -> None:
        self._forward = forward
        self.tokens = 0

    def logits(self, batch: Any, wanted: list[int]) -> torch.Tensor:
        self.tokens += len(batch.ids)
        found: torch.Tensor = self._forward.logits(batch, wanted)
        return found


LONG = [3 + number * 7 % 290 for number in range(300)]


def choice_alone(model: Model, choice: int, sampling: Sampling, prompt: list[int] = LONG) -> Any:
    """What a choice says that has computed its prompt itself."""
    found = Answers(model)
    found.submit(0, prompt, sampling)
    for speech in found.steps._speeches.values():
        speech.taste.choice = choice
    return [(piece.text, piece.logprobs, piece.finish_reason) for piece in found.finish().pieces[0]]


def said(found: Answers, number: int, choice: int) -> Any:
    pieces = [piece for piece in found.pieces[number] if piece.choice == choice]
    return [(piece.text, piece.logprobs, piece.finish_reason) for piece in pieces]


@pytest.mark.parametrize("number", range(6))
def test_choices_share_the_computed_prompt_and_say_what_they_would_say_alone(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    model = loaded(tiny_folder, "--prefill-tokens", "32")
    sampling = msgspec.structs.replace(settings_of(number + 4), max_tokens=20, top_logprobs=2)
    expected = [choice_alone(model, choice, sampling) for choice in range(4)]
    assert model.steps is not None
    counting = _Counting(model.steps._forward)
    monkeypatch.setattr(model.steps, "_forward", counting)
    found = Answers(model)
    found.submit(0, LONG, sampling, choices=4)
    found.submit(1, LONG[:77], sampling)
    found.finish()
    assert [said(found, 0, choice) for choice in range(4)] == expected
    assert counting.tokens <= 300 + 77 + 5 * 19


@pytest.mark.parametrize("flags", [("--max-batch", "2"), ("--kv-tokens", "1024"), ("--kv-tokens", "512")])
def test_choices_without_a_place_wait_and_say_the_same(model: Model, tiny_folder: Path, flags: tuple[str, ...]) -> None:
    short = loaded(tiny_folder, "--prefill-tokens", "32", *flags)
    sampling = Sampling(max_tokens=40, seed=4, ignore_eos=True)
    found = Answers(short)
    found.submit(0, LONG, sampling, choices=5, prompt_logprobs=True)
    found.submit(1, LONG[:77], sampling, choices=2, prompt_logprobs=True)
    found.finish()
    for number, prompt, choices in ((0, LONG, 5), (1, LONG[:77], 2)):
        for choice in range(choices):
            alone = choice_alone(model, choice, sampling, prompt)
            assert found.text(number, choice) == "".join(text for text, _, _ in alone)
        assert [len(each.logprobs) for each in found.others if each.request == number] == [len(prompt)]
    assert found.steps.measure().kv_cache_use == 0


def test_a_request_whose_choices_wait_for_their_prompt_is_one_that_runs_and_not_several_that_wait(
    tiny_folder: Path,
) -> None:
    """What waits takes slots from a node."""
    found = Answers(loaded(tiny_folder, "--prefill-tokens", "32", "--max-batch", "2"))
    found.submit(0, LONG, Sampling(max_tokens=3, ignore_eos=True), choices=4)
    for _ in range(11):
        found.step()
        figures = found.steps.measure()
        assert (figures.running, figures.waiting) == (1, 0)
    found.submit(1, [5, 6], GREEDY)
    figures = found.steps.measure()
    assert (figures.running, figures.waiting) == (1, 1)
    figures = found.finish().steps.measure()
    assert (figures.running, figures.waiting) == (0, 0)


def test_choices_that_are_only_read_end_with_the_first(model: Model) -> None:
    found = Answers(model)
    found.submit(0, LONG, Sampling(max_tokens=0), choices=3, prompt_logprobs=True)
    found.finish()
    assert [(piece.choice, piece.finish_reason) for piece in found.pieces[0]] == [(n, "length") for n in range(3)]
    assert found.count == 1


def test_choices_cancelled_in_any_step_leave_nothing_and_change_nothing(tiny_folder: Path) -> None:
    model = loaded(tiny_folder, "--prefill-tokens", "32")
    sampling = Sampling(max_tokens=6, seed=4, ignore_eos=True, top_logprobs=1)
    expected = [choice_alone(model, choice, sampling) for choice in range(2)]
    for steps in range(22):
        found = Answers(model)
        found.submit(7, LONG[::-1], sampling, choices=3, prompt_logprobs=True)
        found.submit(0, LONG, sampling, choices=2)
        for _ in range(steps):
            found.step()
        found.steps.cancel(7)
        found.submit(8, LONG[:90], sampling, choices=3)  # into the places that are free now
        found.finish()
        assert [said(found, 0, choice) for choice in range(2)] == expected
        assert (found.steps.measure().kv_cache_use, found.steps._speeches, found.steps._telling) == (0, {}, {})


def test_a_first_choice_that_ends_at_once_leaves_the_others_their_prompt(tiny_folder: Path) -> None:
    model = loaded(tiny_folder, "--prefill-tokens", "32")
    sampling = Sampling(max_tokens=12, temperature=1.5, seed=4, ignore_eos=True)
    alone = ["".join(text for text, _, _ in choice_alone(model, choice, sampling)) for choice in range(4)]
    assert len({text[0] for text in alone}) > 1
    stopped = msgspec.structs.replace(sampling, stop=(alone[0][0],))
    found = Answers(model)
    found.submit(0, LONG, stopped, choices=4)
    found.step()
    found.finish()
    assert found.text(0, 0) == ""
    assert [found.text(0, choice) for choice in range(4)] == [text.split(alone[0][0])[0] for text in alone]


def test_logprobs_of_all_rows_are_one_computation(model: Model) -> None:
    found = Answers(model)
    for number in range(4):
        found.submit(number, [5, 6, 7], Sampling(max_tokens=2, seed=number, top_logprobs=3, ignore_eos=True))
    with Operations() as seen:
        found.finish()
    made = [tensor.shape[0] for name, tensor in seen.made if name == "_log_softmax"]
    assert made == [4, 4]


def test_pieces_come_in_the_interval_that_is_set_and_the_first_at_once(model: Model, tiny_folder: Path) -> None:
    prompt = prompts(1)[0]
    sampling = Sampling(max_tokens=20, seed=1, top_logprobs=0, ignore_eos=True)
    found = answers(loaded(tiny_folder, "--stream-interval", "8"), (prompt, sampling))
    assert [piece.tokens for piece in found.pieces[0]] == [1, 8, 8, 3]
    assert [len(piece.logprobs or []) for piece in found.pieces[0]] == [1, 8, 8, 3]
    assert found.text(0) == answers(model, (prompt, sampling)).text(0)


def test_an_answer_goes_on_after_its_own_tokens_as_if_it_had_never_stopped(model: Model) -> None:
    prompt = prompts(1)[0]
    whole = Answers(model)
    sampling = Sampling(max_tokens=30, seed=3, top_logprobs=0, ignore_eos=True)
    whole.submit(0, prompt, sampling)
    whole.finish()
    tokens = [each.token for piece in whole.pieces[0] for each in piece.logprobs or []]
    rest = answers(model, (prompt + tokens[:11], msgspec.structs.replace(sampling, max_tokens=19)))
    assert [each.token for piece in rest.pieces[0] for each in piece.logprobs or []] == tokens[11:]


def test_a_request_that_joins_later_changes_nothing(model: Model) -> None:
    asked = [(prompt, settings_of(number)) for number, prompt in enumerate(prompts(8, seed=3))]
    found = Answers(model)
    for number, (prompt, sampling) in enumerate(asked):
        found.submit(number, prompt, sampling)
        for _ in range(5):
            found.step()
    found.finish()
    for number, each in enumerate(asked):
        assert answers(model, each).text(0) == found.text(number)


def test_a_cache_too_small_for_all_postpones_some_and_loses_nothing(tiny_folder: Path) -> None:
    model = loaded(tiny_folder, "--kv-tokens", "512")
    wide = loaded(tiny_folder)
    asked = [(prompt[:40], Sampling(max_tokens=100, seed=n, ignore_eos=True)) for n, prompt in enumerate(prompts(8))]
    assert [answers(model, *asked).text(n) for n in range(8)] == [answers(wide, *asked).text(n) for n in range(8)]
    assert model.steps is not None
    assert model.steps.measure().kv_cache_use == 0


def test_a_cancelled_request_is_in_no_later_step(model: Model) -> None:
    found = Answers(model)
    for number, prompt in enumerate(prompts(3)):
        found.submit(number, prompt, GREEDY)
    found.step()
    found.steps.cancel(1)
    before = len(found.pieces.get(1, []))
    found.finish()
    assert len(found.pieces.get(1, [])) == before
    assert len(found.pieces[0]) == len(found.pieces[2]) == 40


def test_a_thousand_requests_with_random_cancels_leave_nothing(model: Model) -> None:
    luck = random.Random(5)
    found = Answers(model)
    waiting = list(range(1000))
    under_way: set[int] = set()
    while waiting or found.steps.busy:
        for number in waiting[: luck.randrange(1, 40)]:
            waiting.remove(number)
            sampling = Sampling(max_tokens=luck.randrange(1, 12), seed=number, stop=("e",) if number % 5 == 0 else ())
            found.submit(number, [luck.randrange(3, 300)] * luck.randrange(1, 30), sampling, choices=1 + number % 2)
            under_way.add(number)
        for number in luck.sample(sorted(under_way), min(len(under_way), luck.randrange(6))):
            found.steps.cancel(number)
            under_way.remove(number)
        if found.steps.busy:
            found.step()
    figures = found.steps.measure()
    assert (figures.running, figures.waiting, figures.kv_cache_use) == (0, 0, 0)
    assert not found.steps._speeches
    assert not found.steps._telling


def test_a_schema_that_turns_out_too_large_in_the_middle_of_an_answer_is_refused_and_cuts_nobodys(model: Model) -> None:
    many = [
        {
            "type": "object",
            "properties": {"a": {"type": "object"}, f"b{number}": {"type": "string"}},
            "required": ["a"],
            "additionalProperties": False,
        }
        for number in range(1400)
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "many", "schema": {"anyOf": many}}}
    bound = Sampling(max_tokens=40, seed=1, grammar=of_response_format(schema))
    found = Answers(model)
    found.submit(0, LONG[:9], bound, choices=3)
    found.submit(1, LONG[:9], GREEDY)
    found.finish()
    assert not [piece.finish_reason for piece in found.pieces.get(0, []) if piece.finish_reason]
    (refusal,) = found.others
    assert isinstance(refusal, Refusal)
    assert (refusal.request, refusal.http_status, refusal.param) == (0, 400, "response_format")
    assert refusal.message.startswith("The schema cannot be obeyed: Parser Error: Current row has")
    assert found.text(1) == answers(model, (LONG[:9], GREEDY)).text(0)
    assert found.steps.measure().kv_cache_use == 0


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_numbers_that_overflow_in_one_answer_are_in_no_later_one(
    tiny_folder: Path, tmp_path: Path, attention: str
) -> None:
    """As float16 does, where a model was not made for it: what a masked key holds must not count either."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.embed_tokens.weight"][7] = torch.inf
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    model = loaded(tmp_path, "--dtype", "float16", "--attention", attention)
    asked = [(prompt, GREEDY) for prompt in ([5, 6], [9] * 70, [8, 9, 10])]
    before = answers(model, *asked)
    overflown = Answers(model)
    for number, sampling in enumerate((GREEDY, settings_of(4), Sampling(max_tokens=5), Sampling(max_tokens=0))):
        overflown.submit(number, [7] * 100, sampling, choices=2)
    overflown.finish()
    assert overflown.pieces == {}, "there is no token that could follow"
    assert sorted((each.request, each.code, each.http_status) for each in overflown.others) == [
        (number, "server_error", 500) for number in range(4)
    ]
    assert "DTYPE=bfloat16 or float32" in overflown.others[0].message
    after = answers(model, *asked)
    assert [after.text(number) for number in range(3)] == [before.text(number) for number in range(3)]


class _Short:
    """A forward pass that has memory for some rows only."""

    def __init__(self, forward: Any, rows_max: int) -> None:
        self._forward = forward
        self._rows_max = rows_max

    def logits(self, batch: Any, wanted: list[int]) -> torch.Tensor:
        if len(batch.order) > self._rows_max:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        found: torch.Tensor = self._forward.logits(batch, wanted)
        return found


def test_out_of_memory_shrinks_the_batch_and_everybody_still_gets_an_answer(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(prompt, settings_of(number)) for number, prompt in enumerate(prompts(8))]
    expected = [answers(model, *asked).text(number) for number in range(8)]
    assert model.steps is not None
    monkeypatch.setattr(model.steps, "_forward", _Short(model.steps._forward, 3))
    found = answers(model, *asked)
    assert [found.text(number) for number in range(8)] == expected
    assert model.steps.measure().out_of_memory > 0


@pytest.mark.parametrize("what", ["choose", "logprobs_of"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()], ids=["GPU", "host"])
def test_no_memory_for_what_follows_from_a_step_costs_nobody_an_answer(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception
) -> None:
    model = loaded(tiny_folder, "--prefill-tokens", "64")
    read, choices = Sampling(max_tokens=0, top_logprobs=1), Sampling(max_tokens=12, seed=4, top_logprobs=2)

    def everything() -> Any:
        found = Answers(model)
        found.submit(0, LONG, choices, choices=3, prompt_logprobs=True)
        found.submit(1, LONG[:90], read, choices=2, prompt_logprobs=True)
        for number, prompt in enumerate(prompts(6), 2):
            found.submit(number, prompt, settings_of(number))
        found.finish()
        assert found.steps.measure().kv_cache_use == 0
        assert (found.steps._speeches, found.steps._telling) == ({}, {})
        told = {each.request: [word.token for word in each.logprobs] for each in found.others}
        return told, {
            (number, piece.choice): (found.text(number, piece.choice), piece.finish_reason)
            for number, pieces in found.pieces.items()
            for piece in pieces
        }

    expected, computed, luck, failed = (
        everything(),
        getattr(workernode.local.server.steps.steps, what),
        random.Random(6),
        0,
    )

    def short(*arguments: Any) -> Any:
        nonlocal failed
        assert model.steps is not None
        if len(model.steps._schedule.running) > 1 and luck.random() < 0.4:
            failed += 1
            raise error
        return computed(*arguments)

    monkeypatch.setattr(workernode.local.server.steps.steps, what, short)
    assert everything() == expected
    assert failed > 3


def test_a_request_that_does_not_fit_alone_is_refused_and_the_next_one_works(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.steps is not None
    with monkeypatch.context() as patch:
        patch.setattr(model.steps, "_forward", _Short(model.steps._forward, 0))
        refused = answers(model, ([5, 6], GREEDY)).others
    assert [(each.code, each.http_status) for each in refused if isinstance(each, Refusal)] == [("out_of_memory", 400)]
    assert answers(model, ([5, 6], GREEDY)).text(0)
