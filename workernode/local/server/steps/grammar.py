"""JSON mode, JSON schemas and forced tool calls: which tokens may come next. The grammars are llguidance's."""

from __future__ import annotations

from typing import Any

import torch


class WrongGrammar(Exception):
    """This grammar cannot be obeyed; the sentence says why, in llguidance's words."""


class Grammars:
    """Makes matchers for one tokenizer. Prepared at the first use, which takes about a second."""

    def __init__(self, tokenizer: Any, vocabulary: int, eos: list[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos = eos
        self._prepared: Any = None
        self._last: tuple[str, Any] = ("", None)
        """The last grammar and its matcher, at the beginning: a large one takes seconds, and choices share it."""

    def matcher(self, grammar: str) -> Matcher:
        """Raises :class:`WrongGrammar`."""
        if self._last[0] != grammar:
            try:
                self._last = (grammar, self._made(grammar))
            except WrongGrammar:
                raise
            except Exception as error:  # whatever the library throws, the other requests go on
                raise WrongGrammar(f"{str(error).split(chr(10))[0][:300] or type(error).__name__}") from None
        return Matcher(self._last[1].deep_copy(), self._vocabulary)

    def _made(self, grammar: str) -> Any:
        import llguidance

        if self._prepared is None:
            from llguidance.hf import from_tokenizer

            # A tokenizer may have more tokens than the model: of these none can come.
            count = max(self._vocabulary, len(self._tokenizer))
            self._prepared = from_tokenizer(self._tokenizer, n_vocab=count, eos_token=self._eos or None)
        matcher = llguidance.LLMatcher(self._prepared, grammar, log_level=0)
        if matcher.is_error():
            raise WrongGrammar(_reason(matcher))
        return matcher


class Matcher:
    """Where one row is in its grammar."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    def mask(self) -> torch.Tensor:
        """The tokens that may come next, True where they may."""
        packed = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        bits = packed.unsqueeze(1).bitwise_right_shift(torch.arange(8, dtype=torch.uint8)).bitwise_and(1)
        return bits.flatten()[: self._vocabulary].bool()

    def took(self, token: int) -> bool:
        """Go on by a token; whether the text is complete and nothing may follow.

        Raises :class:`WrongGrammar` where what may follow is beyond the library's limits: it takes that for an end.
        """
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise WrongGrammar(_reason(self._matcher))
        return bool(self._matcher.is_stopped())


def _reason(matcher: Any) -> str:
    # The other lines may hold a part of the answer.
    reason: str = matcher.get_error().split("\n")[0][:300]
    return reason
