"""``best_of`` for a provider that has none: of several completions those are shown that the model finds likeliest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

Choice = dict[str, msgspec.Raw]

_NULL = msgspec.Raw(b"null")


class _Logprobs(msgspec.Struct):
    token_logprobs: list[float | None] | None = None


_decoder = msgspec.json.Decoder(_Logprobs | None)


def best(choices: Sequence[Choice], *, of: int, n: int, logprobs_asked: bool) -> list[Choice]:
    """Of each ``of`` choices in a row the ``n`` with the greatest log probability per token, as OpenAI ranks them.

    Where a provider tells none, the first ones. Indexes are given anew; log probabilities that nobody asked for go.
    """
    kept: list[Choice] = []
    for start in range(0, len(choices), of):
        ranked = sorted(choices[start : start + of], key=_likelihood, reverse=True)
        kept += ranked[:n]
    for index, choice in enumerate(kept):
        choice["index"] = msgspec.Raw(b"%d" % index)
        if not logprobs_asked:
            choice["logprobs"] = _NULL
    return kept


def _likelihood(choice: Choice) -> float:
    try:
        told = _decoder.decode(choice.get("logprobs", _NULL))
    except msgspec.DecodeError:
        return -math.inf
    tokens = [each for each in (told.token_logprobs or ()) if each is not None] if told is not None else []
    return sum(tokens) / len(tokens) if tokens else -math.inf
