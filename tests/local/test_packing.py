"""Packed layers compute what plain ones do, and a model that cannot have them is served without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.local.batch_of import GREEDY, Answers, loaded, prompts
from workernode.local.server.steps import loading, packing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SMALLEST", 1)


class Twice(torch.nn.Linear):  # type: ignore[misc]
    """Not quite a linear layer."""


def test_a_packed_layer_computes_what_the_plain_one_does_and_becomes_it_again() -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(96, 33), torch.nn.Sequential(torch.nn.Linear(33, 64, bias=False)))
    rows = torch.randn(2, 5, 96)
    with torch.inference_mode():
        plain = model(rows)
        assert packing.pack(model)
        assert isinstance(model[0], packing.PackedLinear)
        assert isinstance(model[1][0], packing.PackedLinear)
        torch.testing.assert_close(model(rows), plain, rtol=1e-5, atol=1e-5)
        packing.unpack(model)
        assert torch.equal(model(rows), plain)


def test_only_large_plain_layers_of_known_numbers_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(Twice(8, 8), torch.nn.Linear(8, 8, dtype=torch.float64), torch.nn.ReLU())
    assert not packing.pack(model)
    monkeypatch.setattr(packing, "SMALLEST", 65)
    assert not packing.pack(torch.nn.Sequential(torch.nn.Linear(8, 8)))
    assert not packing.pack(torch.nn.Sequential(torch.nn.Linear(8, 8, device="meta")))


def test_a_model_is_served_packed(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = _watched(monkeypatch)
    loaded(tiny_folder)
    assert any(isinstance(each, packing.PackedLinear) for each in models[0].modules())


def test_code_that_reads_a_weight_itself_is_served_with_plain_layers(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _said(loaded(tiny_folder))
    models = _watched(monkeypatch)

    def reads_weight(self: Any, states: torch.Tensor) -> torch.Tensor:
        gated = torch.nn.functional.linear(states, self.gate_proj.weight)
        return self.down_proj(self.act_fn(gated) * self.up_proj(states))

    from transformers.models.llama.modeling_llama import LlamaMLP

    monkeypatch.setattr(LlamaMLP, "forward", reads_weight)
    model = loaded(tiny_folder)
    assert not any(isinstance(each, packing.PackedLinear) for each in models[0].modules())
    assert _said(model) == expected


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that are loaded from now on."""
    models: list[Any] = []
    load = loading.load_model

    def watched(*arguments: Any) -> Any:
        models.append(load(*arguments))
        return models[-1]

    monkeypatch.setattr(loading, "load_model", watched)
    return models


def _said(model: Any) -> list[str]:
    answers = Answers(model)
    for number, prompt in enumerate(prompts(3)):
        answers.submit(number, prompt, GREEDY)
    while model.steps.busy:
        answers.step()
    return ["".join(piece.text for piece in answers.pieces[number]) for number in range(3)]
