"""From hidden states to one vector for a text, as the model's own files say (the format of sentence-transformers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch

from workernode.local.server.ending import CannotServe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TOKENS_AT_ONCE = 4096
_TEXTS_AT_ONCE = 64


Mode = Literal["mean", "cls", "last", "max", "weightedmean"]
_MODES: dict[str, Mode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean",  # another length only, and vectors are normalised
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
_ACTIVATIONS = {"Identity": torch.nn.Identity, "Tanh": torch.nn.Tanh, "ReLU": torch.nn.ReLU, "GELU": torch.nn.GELU}


@dataclass(frozen=True)
class Pooling:
    """``mean`` over the tokens, by their places in the text if ``weightedmean``, the greatest of each dimension
    (``max``), the first (``cls``) or the ``last``. Then the layers that the model has after that."""

    mode: Mode
    layers: tuple[torch.nn.Module, ...] = ()

    def vector(self, states: torch.Tensor) -> torch.Tensor:
        """Of one text: (tokens, size) to (size,), not normalised."""
        vector = self._pooled(states.float())
        for layer in self.layers:
            vector = layer.to(vector.device)(vector)
        return vector

    def size_of(self, hidden: int) -> int:
        """The dimensions of vectors from hidden states of that many."""
        linear = [each for layer in self.layers for each in layer.modules() if isinstance(each, torch.nn.Linear)]
        return linear[-1].out_features if linear else hidden

    def _pooled(self, states: torch.Tensor) -> torch.Tensor:
        if self.mode == "mean":
            return states.mean(dim=0)
        if self.mode == "max":
            return states.max(dim=0).values
        if self.mode == "weightedmean":
            weights = torch.arange(1, len(states) + 1, device=states.device, dtype=states.dtype)
            return (weights @ states) / weights.sum()
        return states[0 if self.mode == "cls" else -1]


def pooling_of(folder: Path, *, generates: bool) -> Pooling:
    """What the model's modules say; without them the last token of a decoder, and the mean of an encoder.

    Raises :class:`CannotServe` for what is not known here: vectors of another kind would be wrong and look right.
    """
    modules = _read(folder / "modules.json") or [{"type": "Pooling", "path": "1_Pooling"}]
    mode: Mode = "last" if generates else "mean"
    layers = []
    for module in modules:
        kind, path = str(module["type"]).rpartition(".")[2], folder / str(module["path"])
        if kind == "Pooling":
            mode = _mode_of(_read(path / "config.json"), mode)
        elif kind == "Dense":
            layers.append(_dense(path))
        elif kind not in ("Transformer", "Normalize", "Dropout"):
            raise CannotServe("architecture", f"Embeddings by a module {kind} are not supported.")
    return Pooling(mode, tuple(layers))


def _mode_of(config: Any, default: Mode) -> Mode:
    asked = (config or {}).get("pooling_mode")  # newer files name it, or several
    found = [mode for name, mode in _MODES.items() if (config or {}).get(name)]
    if asked:
        named = {f"pooling_mode_{each}{ending}" for each in _all(asked) for ending in ("", "_token", "_tokens")}
        found = [mode for name, mode in _MODES.items() if name in named]
    if len(found) > 1 or (config and not found):
        raise CannotServe("architecture", "The pooling of this model is not supported.")
    return found[0] if found else default


def _all(asked: Any) -> list[Any]:
    return asked if isinstance(asked, list) else [asked]


def _dense(folder: Path) -> torch.nn.Module:
    from safetensors.torch import load_file

    asked = _read(folder / "config.json") or {}
    try:
        linear = torch.nn.Linear(asked["in_features"], asked["out_features"], bias=asked.get("bias", True))
        weights = load_file(folder / "model.safetensors")
        linear.load_state_dict({name.removeprefix("linear."): value.float() for name, value in weights.items()})
        activation = _ACTIVATIONS[str(asked.get("activation_function", "Tanh")).rpartition(".")[2]]()
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise CannotServe("model_files", f"{folder} cannot be used: {type(error).__name__}.") from None
    return torch.nn.Sequential(linear, activation).requires_grad_(requires_grad=False)


def _read(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def tokens_max_of(folder: Path, model: Any, tokenizer: Any) -> int:
    """How many tokens of a text an encoder reads: no more than it has positions, whatever its files say."""
    asked = (_read(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    known = _positions(model)
    if isinstance(asked, int):
        return min(asked, known or asked)
    return int(min(known or getattr(model.config, "max_position_embeddings", None) or 512, tokenizer.model_max_length))


def _positions(model: Any) -> int | None:
    """Those that there are weights for; None if positions are reckoned. Some count them from behind padding's on."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            return int(module.num_embeddings) - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


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
    """A vector for each input, as little-endian float32. Whoever joins chunks of a text normalises it.

    Raises OverflowError where the model's numbers are none.
    """
    with torch.inference_mode():
        vectors = [pooling.vector(states).cpu() for states in states_of(inputs)]
    if not all(vector.isfinite().all() for vector in vectors):
        raise OverflowError
    return [vector.numpy().astype("<f4").tobytes() for vector in vectors]
