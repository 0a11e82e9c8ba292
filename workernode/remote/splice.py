"""Chunks of one stream that differ in nothing but their choices are spliced instead of read as a whole."""

from __future__ import annotations

import msgspec

from workernode.remote.utf8 import is_utf8

_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_NULL = msgspec.Raw(b"null")
_LEARNINGS_MAX = 3
"""Tries per stream: some providers put something new into every chunk."""


class Splice:
    """What stands before and after the choices of a chunk, theirs and ours, learned from a chunk that was read."""

    def __init__(self) -> None:
        self._theirs: tuple[bytes, bytes] | None = None
        self._ours = (b"", b"")
        self._learnings = 0

    def choices_of(self, payload: bytes) -> bytes | None:
        """The choices of a chunk that is like the learned one but for them, perhaps not even JSON; else None."""
        if self._theirs is None:
            return None
        before, after = self._theirs
        if not payload.startswith(before) or not payload.endswith(after):
            return None
        choices = payload[len(before) : len(payload) - len(after)]
        return choices if choices.isascii() or is_utf8(choices) else None

    def line(self, choices: bytes | msgspec.Raw) -> bytes:
        """The line to pass on."""
        before, after = self._ours
        return b"%b%b%b" % (before, choices, after)

    def learn(self, payload: bytes, theirs: dict[str, msgspec.Raw], ours: dict[str, msgspec.Raw]) -> None:
        """``payload`` was read as ``theirs`` and became ``ours``; both have choices."""
        if self._learnings >= _LEARNINGS_MAX:
            return
        self._learnings += 1
        choices = bytes(theirs["choices"])
        start = payload.find(choices)
        before, after = payload[:start], payload[start + len(choices) :]
        # The same bytes may stand somewhere else first: then this is another chunk, or none.
        try:
            without = _top.decode(b"%bnull%b" % (before, after))
        except msgspec.DecodeError:
            return
        if {**theirs, "choices": _NULL} != without or not before.rstrip().endswith(b":"):
            return
        self._theirs = (before, after)
        self._ours = _around_choices(ours)


def _around_choices(chunk: dict[str, msgspec.Raw]) -> tuple[bytes, bytes]:
    names = list(chunk)
    place = names.index("choices")
    head = _encoder.encode({name: chunk[name] for name in names[:place]})
    tail = _encoder.encode({name: chunk[name] for name in names[place + 1 :]})
    comma = b"," if place else b""
    return head[:-1] + comma + b'"choices":', (b"," if len(tail) > 2 else b"") + tail[1:] + b"\n"
