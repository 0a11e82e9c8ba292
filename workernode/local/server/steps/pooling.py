"""From hidden states to one vector for a text, as the model's own files say (sentence-transformers' format)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TOKENS_AT_ONCE = 4096
_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Pooling:
    """``mean`` over the tokens, the first (``cls``) or the ``last``."""

    mode: Literal["mean", "cls", "last"]

    def vector(self, states: torch.Tensor) -> torch.Tensor:
        """Of one text: (tokens, size) to (size,), not normalised."""
        if self.mode == "mean":
            return states.float().mean(dim=0)
        return states[0 if self.mode == "cls" else -1].float()


def pooling_of(folder: Path, *, generates: bool) -> Pooling:
    """What ``1_Pooling/config.json`` says; without it the last token of a decoder, and the mean of an encoder."""
    try:
        asked = msgspec.json.decode((folder / "1_Pooling" / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Pooling("last" if generates else "mean")
    if asked.get("pooling_mode_cls_token"):
        return Pooling("cls")
    return Pooling("last" if asked.get("pooling_mode_lasttoken") else "mean")


def tokens_max_of(folder: Path, config: Any, tokenizer: Any) -> int:
    """How many tokens of a text an encoder reads."""
    try:
        asked = msgspec.json.decode((folder / "sentence_bert_config.json").read_bytes(), type=dict[str, Any])
        if isinstance(asked.get("max_seq_length"), int):
            return int(asked["max_seq_length"])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass
    known = getattr(config, "max_position_embeddings", None) or 512
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        known -= 2  # their positions count from padding on
    return int(min(known, tokenizer.model_max_length))


def normalised(vector: torch.Tensor) -> bytes:
    """The vector's direction, as little-endian float32."""
    unit = torch.nn.functional.normalize(vector.float(), dim=0).cpu()
    data: bytes = unit.numpy().astype("<f4").tobytes()
    return data


def encode(model: Any, padding: int, inputs: list[list[int]]) -> list[torch.Tensor]:
    """The hidden states of texts by an encoder, padded in batches of similar length."""
    order = sorted(range(len(inputs)), key=lambda number: len(inputs[number]))
    found: dict[int, torch.Tensor] = {}
    while order:
        count = max(1, min(_TEXTS_AT_ONCE, _TOKENS_AT_ONCE // len(inputs[order[-1]])))
        numbers, order = order[-count:], order[:-count]
        length = max(len(inputs[number]) for number in numbers)
        ids = torch.tensor([inputs[n] + [padding] * (length - len(inputs[n])) for n in numbers])
        mask = torch.tensor([[1] * len(inputs[n]) + [0] * (length - len(inputs[n])) for n in numbers])
        with torch.inference_mode():
            states = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).last_hidden_state
        found |= {n: states[place, : len(inputs[n])] for place, n in enumerate(numbers)}
    return [found[number] for number in range(len(inputs))]


def embed(
    inputs: list[list[int]], states_of: Callable[[list[list[int]]], list[torch.Tensor]], pooling: Pooling
) -> list[bytes]:
    """A normalised vector for each input."""
    return [normalised(pooling.vector(states)) for states in states_of(inputs)]
