"""One pass of the model over a batch: tokens in, logits out.

Every token of the step goes through the model's linear layers in one flat matrix without padding between rows. For a
token to get the same bits in any company, its row of a matrix product must not depend on how many rows there are. The
usual libraries keep to that on a CPU if the number of rows is a multiple of what their kernels take at once;
:meth:`Forward.find_row_multiple` finds it out for the machine at hand, and whether there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from workernode.local.server.steps.batch import Batch, Stretch
from workernode.local.server.steps.packing import PackedLinear

if TYPE_CHECKING:
    from workernode.local.server.steps.attention import CachedAttention

ROW_MULTIPLES = (1, 2, 4, 8, 16, 32)
_WITH_FLOAT64 = ("cpu", "cuda")
_ROWS_LOOKED_AT = 64
_LOOKED_AT = list(range(3, 40))
"""Tokens of a text that is computed alone and in company."""


class Forward:
    """A model with its cache. Tokens go to ``device``, from where a model on several takes them."""

    def __init__(self, model: Any, attention: CachedAttention, device: torch.device, *, scratch_place: int) -> None:
        self._model = model
        self._attention = attention
        self._scratch = scratch_place
        self.device = device
        self._multiple = 8
        self.row_invariant = False

    def logits(self, batch: Batch, wanted: list[int]) -> torch.Tensor:
        """The logits after the ``wanted`` tokens of the batch, (wanted, vocabulary), in float32; they are on the
        processor where the device may have no float64, in which chances are added up."""
        padding = -len(batch.ids) % self._multiple
        places = batch.places + [self._scratch] * padding
        self._attention.begin(batch, torch.tensor(places, device=self.device))
        heads = wanted + [0] * (-len(wanted) % self._multiple)
        with torch.inference_mode():
            output = self._model(
                input_ids=self._flat(batch.ids, padding),
                position_ids=self._flat(batch.positions, padding),
                use_cache=False,
                logits_to_keep=torch.tensor(heads, dtype=torch.long, device=self.device),
            )
        logits: torch.Tensor = output.logits[0, : len(wanted)].float()
        return logits if logits.device.type in _WITH_FLOAT64 else logits.cpu()

    def hidden(self, inputs: list[list[int]]) -> list[torch.Tensor]:
        """The last hidden states of texts that are in no cache, each (tokens, size)."""
        batch = Batch([], [], [], [], [], [])
        for tokens in inputs:
            batch.stretches.append(Stretch(len(batch.ids), len(tokens), 0, None))
            batch.ids.extend(tokens)
            batch.positions.extend(range(len(tokens)))
        padding = -len(batch.ids) % self._multiple
        self._attention.begin(batch, None)
        body = self._model.base_model
        if body is self._model:
            body = self._model.model  # Llama 4 calls its body by a name that it does not have
        with torch.inference_mode():
            output = body(
                input_ids=self._flat(batch.ids, padding),
                position_ids=self._flat(batch.positions, padding),
                use_cache=False,
            )
        states = output.last_hidden_state[0]
        return [states[each.first : each.first + each.count] for each in batch.stretches]

    def find_row_multiple(self) -> None:
        """Pad steps to the least multiple, if any, at which a row's bits do not depend on the number of rows."""
        layers = [
            each
            for each in self._model.modules()
            if type(each) in (torch.nn.Linear, PackedLinear) and not each.weight.is_meta
        ]
        shapes = {tuple(layer.weight.shape): layer for layer in layers}.values()
        for multiple in ROW_MULTIPLES:
            if shapes and all(_is_row_invariant(layer, multiple) for layer in shapes):
                self._multiple = multiple
                # The rest of the model too: of experts, each sees another number of rows in other company.
                alone, others = _LOOKED_AT, [number + 1 for number in _LOOKED_AT]
                in_company = self.hidden([others, alone, others[:5]])[1]
                self.row_invariant = torch.equal(self.hidden([alone])[0], in_company)
                return

    def _flat(self, numbers: list[int], padding: int) -> torch.Tensor:
        return torch.tensor([numbers + [0] * padding], device=self.device)


def _is_row_invariant(layer: Any, multiple: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_ROWS_LOOKED_AT, layer.in_features, generator=generator)
    rows = rows.to(device=layer.weight.device, dtype=layer.weight.dtype)
    with torch.inference_mode():
        whole = layer(rows)
        counts = range(multiple, _ROWS_LOOKED_AT, multiple)
        return all(torch.equal(layer(rows[:count]), whole[:count]) for count in counts)
