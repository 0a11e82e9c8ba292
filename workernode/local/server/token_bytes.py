"""What a tokenizer's tokens are in bytes: one process writes texts by it, and the other one tells of their tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BLANK = "\u2581"
"""How SentencePiece writes one."""


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether a text is its tokens' bytes, one after the other."""
    decoder = msgspec.json.decode(tokenizer.to_str()).get("decoder") or {}
    return bool(decoder.get("type") == "ByteLevel")


def bytes_of_tokens(tokenizer: Tokenizer) -> list[bytes]:
    """By token. Of tokenizers that are not of bytes' level, what stands for a blank at the begin of a word is one."""
    alphabet = _byte_alphabet() if is_byte_level(tokenizer) else {}
    added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
    table = [b""] * tokenizer.get_vocab_size(with_added_tokens=True)
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if number >= len(table):
            table.extend([b""] * (number + 1 - len(table)))
        if number in added:
            table[number] = added[number].encode()
        elif alphabet and all(char in alphabet for char in token):
            table[number] = bytes(alphabet[char] for char in token)
        elif not alphabet and (byte := _BYTE.fullmatch(token)):
            table[number] = bytes([int(byte[1], 16)])
        else:
            table[number] = (token if alphabet else token.replace(_BLANK, " ")).encode()
    return table


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers write for bytes: printable ones are themselves, the others follow
    from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
