"""Every sampling setting does to the chances what its definition says."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.local.operations import Operations
from workernode.local.server.steps import sampler
from workernode.local.server.steps.sampler import Taste, choose
from workernode.local.server.words import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGITS = [2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0]
DRAWS = 2000


def frequencies(logits: list[float], prompt: tuple[int, ...] = (), counts: Any = None, **settings: Any) -> list[float]:
    tastes = [
        Taste(Sampling(max_tokens=1, seed=seed, **settings), 0, prompt, dict(counts or {})) for seed in range(DRAWS)
    ]
    chosen = choose(torch.tensor([logits] * DRAWS), tastes, [0] * DRAWS)
    return [chosen.count(token) / DRAWS for token in range(len(logits))]


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


def kept(chances: list[float], count: int) -> list[float]:
    return [chance / sum(chances[:count]) if place < count else 0.0 for place, chance in enumerate(chances)]


def bent(**changes: float) -> list[float]:
    return [value + changes.get(f"t{token}", 0.0) for token, value in enumerate(LOGITS)]


CHANCES = softmax(LOGITS)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, CHANCES),
        ({"temperature": 0.5}, softmax([value / 0.5 for value in LOGITS])),
        ({"temperature": 2.0}, softmax([value / 2 for value in LOGITS])),
        ({"top_k": 3}, kept(CHANCES, 3)),
        ({"top_p": 0.6}, kept(CHANCES, 2)),
        ({"top_p": 0.0}, kept(CHANCES, 1)),
        ({"min_p": 0.3}, kept(CHANCES, 3)),
        ({"top_k": 4, "top_p": 0.7}, kept(CHANCES, 2)),
        ({"temperature": 0.5, "top_p": 0.9}, kept(softmax([value / 0.5 for value in LOGITS]), 3)),
        ({"presence_penalty": 1.0, "counts": {0: 3}}, softmax(bent(t0=-1.0))),
        ({"frequency_penalty": 0.5, "counts": {0: 3, 1: 1}}, softmax(bent(t0=-1.5, t1=-0.5))),
        ({"repetition_penalty": 2.0, "prompt": (0,), "counts": {6: 1}}, softmax(bent(t0=-1.0, t6=-1.0))),
        ({"logit_bias": {7: 5.0, 0: -100.0}}, softmax(bent(t7=5.0, t0=-100.0))),
    ],
    ids=str,
)
def test_chances_are_those_of_the_definition(settings: dict[str, Any], expected: list[float]) -> None:
    found = frequencies(LOGITS, **settings)
    for chance, wanted in zip(found, expected, strict=True):
        assert chance == pytest.approx(wanted, abs=4 * math.sqrt(max(wanted * (1 - wanted), 1e-9) / DRAWS) + 1e-9)
        assert wanted > 1e-12 or chance == 0


def test_temperature_zero_takes_the_likeliest() -> None:
    assert frequencies(LOGITS, temperature=0.0)[0] == 1.0


def test_many_equal_tokens_are_all_possible() -> None:
    """More than are looked at first."""
    found = frequencies([0.0] * 1000, top_p=0.99)
    assert sum(1 for chance in found if chance > 0) > 800


def test_a_grammars_mask_leaves_nothing_else() -> None:
    taste = Taste(Sampling(max_tokens=1), 0, ())
    taste.mask = torch.tensor([False, False, True, False, False, True, False, False])
    chosen = {choose(torch.tensor([LOGITS]), [taste], [position])[0] for position in range(200)}
    assert chosen == {2, 5}


def test_the_same_seed_draws_the_same_and_another_one_something_else() -> None:
    def text(seed: int, choice: int = 0) -> list[int]:
        taste = Taste(Sampling(max_tokens=1, seed=seed), choice, ())
        return [choose(torch.tensor([LOGITS]), [taste], [position])[0] for position in range(50)]

    assert text(1) == text(1)
    assert len({tuple(text(seed)) for seed in range(5)} | {tuple(text(1, choice)) for choice in range(3)}) == 7


@pytest.mark.parametrize("looked_at", [150, 8192])
def test_a_part_of_many_is_a_part_of_all_that_are_left(monkeypatch: pytest.MonkeyPatch, looked_at: int) -> None:
    """As transformers' own warpers, one after the other, would have it."""
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    monkeypatch.setattr(sampler, "_CANDIDATES_MORE", looked_at)
    luck = torch.Generator().manual_seed(3)
    for top_k, top_p in ((1000, 0.03), (1000, 0.3), (200, 0.5)):
        logits = torch.randn(1, 4000, generator=luck)
        warped = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(top_k)(None, logits.clone()))
        allowed = set(torch.nonzero(warped[0] > float("-inf"))[:, 0].tolist())
        tastes = [Taste(Sampling(max_tokens=1, seed=seed, top_k=top_k, top_p=top_p), 0, ()) for seed in range(DRAWS)]
        assert set(choose(logits.repeat(DRAWS, 1), tastes, [0] * DRAWS)) == allowed


@pytest.mark.parametrize("size", [300, 512, 1300, 5120])
@pytest.mark.parametrize("spread", [0.0, 2.0, 8.0])
def test_a_free_choice_is_where_the_sum_of_chances_passes_the_luck(
    size: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the vocabulary, with the exact sum of all chances before."""
    lucks = [0.0, 1e-9, *torch.rand(60, generator=torch.Generator().manual_seed(7)).tolist(), 0.9999, 1 - 2**-53]
    monkeypatch.setattr(sampler, "uniform", lambda seed, choice, position: lucks[position])
    logits = torch.randn(size, generator=torch.Generator().manual_seed(size)) * spread
    logits[[0, 1, 17, size - 1]] = -math.inf  # may not be chosen, not even by the luckiest
    powers = logits.double().exp().tolist()
    sums = [each / math.fsum(powers) for each in itertools.accumulate(powers)]
    taste = Taste(Sampling(max_tokens=1), 0, ())
    chosen = choose(logits.repeat(len(lucks), 1), [taste] * len(lucks), list(range(len(lucks))))
    for luck, token in zip(lucks, chosen, strict=True):
        assert powers[token] > 0
        # Chances are float32.
        assert bisect.bisect(sums, luck - 1e-5) <= token <= bisect.bisect(sums, luck + 1e-5)
    assert len(set(chosen)) > 3


def test_what_a_row_draws_from_a_whole_vocabulary_is_the_same_in_any_company() -> None:
    logits = torch.randn(33, 5000, generator=torch.Generator().manual_seed(4)) * 3
    tastes = [Taste(Sampling(max_tokens=1, seed=seed), 0, ()) for seed in range(33)]
    together = choose(logits.clone(), tastes, [5] * 33)
    assert [choose(logits[n : n + 1].clone(), tastes[n : n + 1], [5])[0] for n in range(33)] == together


@pytest.mark.parametrize("settings", [{"top_k": 200}, {"top_p": 0.95}, {"top_k": 5000, "top_p": 0.9}], ids=str)
def test_no_vocabulary_is_sorted_for_a_choice_among_thousands(settings: dict[str, Any]) -> None:
    """That took as long as a step of a small model, for each such row."""
    logits = torch.arange(40_000) * -1e-3
    with Operations() as seen:
        choose(logits.repeat(2, 1), [Taste(Sampling(max_tokens=1, **settings), 0, ())] * 2, [0, 1])
    assert not [name for name, made in seen.made if name == "cumsum" and made.shape[-1] == 40_000]


def test_no_vocabulary_is_added_up_in_float64() -> None:
    """That took longer than a step of a small model."""
    with Operations() as seen:
        choose(torch.randn(4, 20_000), [Taste(Sampling(max_tokens=1, seed=seed), 0, ()) for seed in range(4)], [0] * 4)
    assert not [name for name, made in seen.made if made.dtype == torch.float64 and made.shape[-1] >= 20_000]


def test_a_penalized_prompt_is_read_once_and_what_is_generated_counts_too() -> None:
    read = []

    class Prompt(list[int]):
        def __iter__(self) -> Iterator[int]:
            read.append(1)
            return super().__iter__()

    taste = Taste(Sampling(max_tokens=9, temperature=0.0, repetition_penalty=100.0), 0, Prompt([0, 3, 0]))
    chosen = []
    for position in range(6):
        chosen += choose(torch.tensor([[8.0, 7.0, 6.0, 5.0, 4.0]]), [taste], [position])
        taste.took(chosen[-1])
    # First what has not been there yet, and then by size again.
    assert chosen == [1, 2, 4, 0, 0, 0]
    assert len(read) == 1


def test_rounding_chooses_nothing_without_a_chance() -> None:
    """Where the luck ends at the border of two blocks, and the second's sum is rounded."""
    chances = torch.zeros(200, 1536)
    chances[:, 0] = 1 - 2**-24
    chances[:, 512] = 2**-24 - 2**-48
    chances[:, 1025] = torch.arange(1, 201) * 1e-15 + 2**-48
    before = 1 - 2**-48
    luck = before / (before + chances[:, 1025:1026].double())
    chosen = sampler._pick_of_all(chances, luck)
    assert set(chosen) == {1025}
