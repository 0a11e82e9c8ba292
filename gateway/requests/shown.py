"""What a client has seen of a stream, kept so that another attempt can go on where the first one broke off. Pure.

Two ways to go on. An engine that can continue is given the text (kept up to :data:`KEPT_CHARS_MAX` characters). Any
other answers anew; :class:`Replay` checks by length and hash that it repeats what was shown, and passes on the rest.
Both are for plain text alone: one choice, no tools, no reasoning, no log probabilities.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

KEPT_CHARS_MAX = 64 * 1024


class Diverged(Exception):
    """The second attempt does not repeat what was shown: the stream cannot be continued with it."""


class _Delta(msgspec.Struct, gc=False):
    """What a chunk adds, if that is nothing but text: a value where only null may be ends the reading."""

    content: str | None = None
    tool_calls: None = None
    function_call: None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    audio: None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    """A completion's, which has no delta."""
    finish_reason: str | None = None
    logprobs: None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def tells_usage(self) -> bool:
        # Some providers send other chunks without choices, about their filters for one.
        return not self.choices and self.usage != _NULL


_NULL = msgspec.Raw(b"null")
_chunk = msgspec.json.Decoder(_Chunk)
_anything = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()


def _text_of(chunk: _Chunk) -> str | None:
    """The text that a chunk adds; None if it is not of one choice."""
    if not chunk.choices:
        return ""
    choice = chunk.choices[0]
    if len(chunk.choices) > 1 or choice.index != 0:
        return None
    return (choice.delta.content if choice.delta is not None else choice.text) or ""


class ShownText:
    """Grows with every chunk that is shown."""

    def __init__(self, *, keep: bool) -> None:
        self.plain = True
        """Whether all of it was plain text, so that it can be continued."""
        self.chars = 0
        self.finished = False
        """Whether the chunk with the finish reason was shown."""
        self.usage_shown = False
        self.opened = False
        """Whether the chunk was shown that tells who speaks."""
        self._hash = hashlib.blake2b(digest_size=16)
        self._kept: list[str] | None = [] if keep else None

    def __repr__(self) -> str:
        return f"<ShownText chars={self.chars} plain={self.plain} kept={self._kept is not None}>"

    @property
    def text(self) -> str | None:
        """The text itself, if it was kept."""
        return "".join(self._kept) if self._kept is not None else None

    @property
    def digest(self) -> bytes:
        """A hash of the text."""
        return self._hash.digest()

    def add(self, lines: bytes) -> None:
        """Take the chunks of a piece, one per line."""
        if not self.plain:
            return
        for line in lines.rstrip(b"\n").split(b"\n"):
            try:
                chunk = _chunk.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._give_up()
                return
            text = _text_of(chunk)
            if text is None:
                self._give_up()
                return
            self._note(chunk)
            if text:
                self._grow(text)

    def _note(self, chunk: _Chunk) -> None:
        if chunk.tells_usage:
            self.usage_shown = True
        elif chunk.choices:
            self.opened = True
            self.finished = self.finished or chunk.choices[0].finish_reason is not None

    def _grow(self, text: str) -> None:
        self.chars += len(text)
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        if self._kept is not None:
            if self.chars > KEPT_CHARS_MAX:
                self._kept = None
            else:
                self._kept.append(text)

    def _give_up(self) -> None:
        self.plain, self._kept = False, None


class Replay:
    """Compares a second attempt with what was shown, and lets through what is new."""

    def __init__(self, shown: ShownText, *, after: bool = False) -> None:
        """``after``: the attempt goes on after what was shown, and does not repeat it."""
        self._chars = shown.chars
        self._digest = shown.digest
        self._opened, self._finished, self._usage_shown = shown.opened, shown.finished, shown.usage_shown
        self._hash = hashlib.blake2b(digest_size=16)
        self._seen = shown.chars if after else 0

    @property
    def caught_up(self) -> bool:
        """Whether everything that was shown has been repeated."""
        return self._seen == self._chars

    def new(self, lines: bytes) -> bytes:
        """The part of a piece that the client has not seen. Raises :class:`Diverged`."""
        return b"".join(self._new(line) for line in lines.rstrip(b"\n").split(b"\n"))

    def _new(self, line: bytes) -> bytes:
        try:
            chunk = _chunk.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Diverged from None
        if not chunk.choices:
            return line + b"\n" if chunk.tells_usage and not self._usage_shown else b""
        text = _text_of(chunk)
        if text is None:
            raise Diverged
        fresh = text
        if not self.caught_up:
            known, fresh = text[: self._chars - self._seen], text[self._chars - self._seen :]
            self._seen += len(known)
            self._hash.update(known.encode("utf-8", "surrogatepass"))
            if self.caught_up and self._hash.digest() != self._digest:
                raise Diverged
        ends = chunk.choices[0].finish_reason is not None
        if ends and not self.caught_up:
            raise Diverged
        if fresh and self._finished:
            raise Diverged
        if not fresh and self._opened and (not ends or self._finished):
            return b""
        self._opened = True
        return line + b"\n" if fresh == text else _with_content(line, fresh)


def _with_content(line: bytes, content: str) -> bytes:
    try:
        chunk = _anything.decode(line)
    except RecursionError:  # what was skipped before is read now
        raise Diverged from None
    choice = chunk["choices"][0]
    if choice.get("delta") is not None:
        choice["delta"]["content"] = content
    else:
        choice["text"] = content
    return _encoder.encode(chunk) + b"\n"
