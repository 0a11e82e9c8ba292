"""MessagePack words over a stream of bytes, each after its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH_BYTES = 4


def framed(words: list[Any], encoder: msgspec.msgpack.Encoder) -> bytes:
    """Words as bytes."""
    parts = [encoder.encode(word) for word in words]
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "little") + part for part in parts)


class Frames:
    """Bytes that come in any portions, to whole words."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The words that are whole now."""
        self._data += data
        start = 0
        while len(self._data) - start >= _LENGTH_BYTES:
            length = int.from_bytes(self._data[start : start + _LENGTH_BYTES], "little")
            end = start + _LENGTH_BYTES + length
            if end > len(self._data):
                break
            yield self._decoder.decode(bytes(self._data[start + _LENGTH_BYTES : end]))
            start = end
        del self._data[:start]
