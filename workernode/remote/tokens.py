"""Counting tokens where a provider does not: by the model's own tokenizer if there is one, else by length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from workernode.engine import EngineUnusable
from workernode.prompts import CHARS_PER_TOKEN, estimated_tokens, prompt_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE_TOKENS = 4
"""What a chat template puts around each message, about: a tokenizer's file does not say."""


class TokenCounter(Protocol):
    """Counts the tokens of prompts and answers. Both are estimates: no file says all that a provider adds."""

    exact: bool
    """Whether it reads texts: then they must be kept for it, and it takes its time."""

    def answer(self, texts: Sequence[str], chars: int) -> int:
        """Of generated text; ``chars`` is its length, where ``texts`` were not kept."""

    def prompt(self, body: bytes) -> int:
        """Of a request's body, at least one."""

    def texts(self, texts: Sequence[str]) -> list[int]:
        """Of each, as the prompt of a completion. May be called in a thread."""


class ByLength:
    """A token for every four characters."""

    exact = False

    def answer(self, texts: Sequence[str], chars: int) -> int:
        return -(-chars // CHARS_PER_TOKEN)

    def prompt(self, body: bytes) -> int:
        return estimated_tokens(body)

    def texts(self, texts: Sequence[str]) -> list[int]:
        return [-(-len(text) // CHARS_PER_TOKEN) for text in texts]


class ByTokenizer:
    """By a ``tokenizer.json``, as Hugging Face's library ``tokenizers`` reads it. Nothing is downloaded.

    Raises :class:`workernode.engine.EngineUnusable` if there is no such library or file.
    """

    exact = True

    def __init__(self, path: str) -> None:
        try:
            import tokenizers
        except ImportError:
            raise EngineUnusable(
                "TOKENIZER needs the library tokenizers: install workernode with its extra 'tokenizer'."
            ) from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(path)
        except Exception:  # the library raises nothing narrower
            raise EngineUnusable("TOKENIZER is no file that the library tokenizers can read.") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def answer(self, texts: Sequence[str], chars: int) -> int:
        return self._count("".join(texts))

    def prompt(self, body: bytes) -> int:
        prompt = prompt_texts(body)
        return max(1, sum(map(self._count, prompt.texts)) + prompt.tokens + MESSAGE_TOKENS * prompt.messages)

    def texts(self, texts: Sequence[str]) -> list[int]:
        # Of a batch it lets go of Python's lock. One by one: several at once would take all of the machine's cores.
        return [len(self._tokenizer.encode_batch_fast([text])[0].ids) for text in texts]

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else 0


def token_counter(path: str) -> TokenCounter:
    """The one for ``TOKENIZER=path``; by length without a path. Raises as :class:`ByTokenizer`."""
    return ByTokenizer(path) if path else ByLength()
