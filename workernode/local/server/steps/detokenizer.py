"""Tokens to text, one by one, never a part of a character."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any, Protocol

from workernode.local.server.token_bytes import bytes_of_tokens, is_byte_level

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_REPLACEMENT = "\ufffd"
_CONTEXT_TOKENS = 6
_CHARACTER_BYTES_MAX = 4
_HELD_TOKENS_MAX = 2 * _CHARACTER_BYTES_MAX
"""So many become no character any more, even if some of them have no text: to wait for one would be to read all of them
again for each token, as long as a model likes."""


class Detokenizer(Protocol):
    """The text of one row."""

    def push(self, token: int) -> str:
        """The characters that are whole with this token."""

    def flush(self) -> str:
        """What is left, at the end: a part of a character becomes U+FFFD."""


class Vocabulary:
    """What a tokenizer's tokens mean: bytes where that is simple, otherwise the tokenizer is asked."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        self._special = frozenset(number for number, token in added.items() if token.special)
        backend = tokenizer.backend_tokenizer
        self._bytes = bytes_of_tokens(backend) if is_byte_level(backend) else None

    def detokenizer(self, prompt: list[int], shown: Collection[int] = ()) -> Detokenizer:
        """For the text after a prompt. Special tokens are no text, but for those that are to be ``shown``."""
        if self._bytes is not None:
            return _Bytes(self._bytes, self._special.difference(shown))
        written = {token: self._tokenizer.convert_ids_to_tokens(token) for token in self._special.intersection(shown)}
        return _Windows(self._tokenizer, self._special, self._context(prompt), written)

    def _context(self, prompt: list[int]) -> list[int]:
        """The last tokens of a prompt. With a part of a character, a run of bytes may be no text at all."""
        for more in range(_CHARACTER_BYTES_MAX):
            tokens = prompt[-_CONTEXT_TOKENS - more :]
            if _REPLACEMENT not in _text(self._tokenizer, tokens):
                return tokens
        return prompt[-_CONTEXT_TOKENS:]


class _Bytes:
    """Each token has its bytes: those of byte-level tokenizers."""

    def __init__(self, table: list[bytes], special: frozenset[int]) -> None:
        self._table = table
        self._special = special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        if token in self._special or token >= len(self._table):
            return ""
        return self._decoder.decode(self._table[token])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Windows:
    """Whatever the tokenizer does: the text of a few tokens with and without the new one is compared."""

    def __init__(self, tokenizer: Any, special: frozenset[int], context: list[int], written: Mapping[int, str]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._written = written
        self._tokens = list(context)
        self._known = len(context)

    def push(self, token: int) -> str:
        if token in self._written:
            return self._new(final=True) + self._written[token]
        if token in self._special:
            return ""
        self._tokens.append(token)
        return self._new(final=False)

    def flush(self) -> str:
        return self._new(final=True)

    def _new(self, *, final: bool) -> str:
        before, after = (_text(self._tokenizer, tokens) for tokens in (self._tokens[: self._known], self._tokens))
        begun = after.endswith(_REPLACEMENT) and len(self._tokens) - self._known < _HELD_TOKENS_MAX
        if len(after) <= len(before) or (begun and not final):
            return ""
        # The next comparison begins with the tokens that are new now: enough for spaces, and short.
        self._tokens = self._tokens[self._known :] if self._known else self._tokens
        self._known = len(self._tokens)
        return after[len(before) :]


def _text(tokenizer: Any, tokens: list[int]) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
