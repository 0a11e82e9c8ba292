"""The luck of a request: a number for each of its tokens, from its seed alone.

No generator with a state that would have to move along: a row that is postponed, or goes on at another node after the
same tokens, draws the same numbers as one that was left in peace.
"""

from __future__ import annotations

import hashlib
import struct

_BITS = 53


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) for the token at ``position`` of prompt and answer of a choice; ``seed`` has 64 bits."""
    words = struct.pack("<QQQ", seed & (2**64 - 1), choice, position)
    digest = hashlib.blake2b(words, digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> (64 - _BITS)) / 2.0**_BITS
