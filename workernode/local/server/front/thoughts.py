"""What a model thinks, told apart from what it answers, in the forms of families that are known; streams of it too.

Text that may become a mark is held back until that is clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Field = Literal["content", "reasoning_content"]
Part = tuple[Field, str]
"""A text, and the field of a message in which it belongs."""


class ThoughtReader(Protocol):
    """Text in, thoughts and answers out: the same in all, wherever the text is cut."""

    @property
    def thinks(self) -> bool:
        """Whether what comes next is a thought, as far as is clear."""

    def push(self, text: str) -> list[Part]:
        """What is clear with this text."""

    def flush(self) -> list[Part]:
        """What is left at the end of the text."""


@dataclass(frozen=True)
class ThoughtFormat:
    """How a family writes a thought: ``begin`` and ``end`` stand around it, ``marks`` may be special tokens."""

    begin: str
    end: str
    marks: tuple[str, ...]

    def reader(self, *, inside: bool) -> ThoughtReader:
        """For a text that begins inside of a thought, or outside."""
        return _Channels() if self is HARMONY else _Tags(self, inside=inside)


THINK = ThoughtFormat("<think>", "</think>", ("<think>", "</think>"))
MAGISTRAL = ThoughtFormat("[THINK]", "[/THINK]", ("[THINK]", "[/THINK]"))
HARMONY = ThoughtFormat(
    "<|channel|>analysis<|message|>", "<|end|>", ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>")
)
"""gpt-oss: each message of an answer names its channel."""
_ANSWERS = "<|channel|>final<|message|>"


def format_of(template: str) -> ThoughtFormat | None:
    """The form that goes with a chat template, or None if none is known."""
    if "<|channel|>" in template:
        return HARMONY
    return next((each for each in (MAGISTRAL, THINK) if each.begin in template or each.end in template), None)


def continued(
    format_: ThoughtFormat | None, content: str, thought: str, *, inside: bool
) -> tuple[str, ThoughtFormat | None, bool]:
    """To continue such an answer: what stands after the prompt, in which form the rest comes, and whether it begins
    inside of a thought. ``inside``: so the prompt ends."""
    if format_ is None:
        return content, None, False
    if format_ is HARMONY:
        return _ANSWERS + content if content else "", format_, False
    if inside and content and format_.end not in content:
        return f"{thought}\n{format_.end}\n\n{content}", None, False
    begun = inside or content.lstrip().startswith(format_.begin)
    within = begun and format_.end not in content
    return content or (thought if inside else ""), format_ if within or not content else None, within


class _Tags:
    """A thought at the beginning of a text, between two marks. Blanks around these belong to neither part."""

    def __init__(self, format_: ThoughtFormat, *, inside: bool) -> None:
        self._format = format_
        self._state: Field | None = None
        """None while it is open how the text begins."""
        self._otherwise: Field = "reasoning_content" if inside else "content"
        self._held = ""
        self._fresh = inside
        """Whether blanks that come next are left out."""

    @property
    def thinks(self) -> bool:
        return (self._state or self._otherwise) == "reasoning_content"

    def push(self, text: str) -> list[Part]:
        self._held += text
        if self._state is None:
            self._begin()
        found: list[Part] = []
        if self._state == "reasoning_content":
            self._strip()
            thought, end, rest = self._held.partition(self._format.end)
            shown = thought[: len(thought) - (0 if end else _overlap(thought, (self._format.end,)))].rstrip()
            found.append(("reasoning_content", shown))
            if end:
                self._state, self._held, self._fresh = "content", rest, True
            else:
                self._held = self._held[len(shown) :]
        if self._state == "content":
            self._strip()
            found.append(("content", self._held))
            self._held = ""
        return [part for part in found if part[1]]

    def flush(self) -> list[Part]:
        held, self._held = self._held, ""
        return [(self._state or self._otherwise, held)] if held else []

    def _begin(self) -> None:
        bare = self._held.lstrip()
        if bare.startswith(self._format.begin):
            self._state, self._held, self._fresh = "reasoning_content", bare[len(self._format.begin) :], True
        elif not self._format.begin.startswith(bare):
            self._state = self._otherwise

    def _strip(self) -> None:
        if self._fresh:
            self._held = self._held.lstrip()
            self._fresh = not self._held


class _Channels:
    """Messages with a head each, that names the channel: all but ``analysis`` are for the reader."""

    def __init__(self) -> None:
        self._held = ""
        self._field: Field | None = "content"
        """None inside of a head."""
        self._head = ""

    @property
    def thinks(self) -> bool:
        return self._field == "reasoning_content"

    def push(self, text: str) -> list[Part]:
        self._held += text
        found: list[Part] = []
        while True:
            places = [(place, mark) for mark in HARMONY.marks if (place := self._held.find(mark)) >= 0]
            if not places:
                shown = len(self._held) - _overlap(self._held, HARMONY.marks)
                found += self._take(self._held[:shown])
                self._held = self._held[shown:]
                return found
            place, mark = min(places)
            found += self._take(self._held[:place])
            self._held = self._held[place + len(mark) :]
            if mark == "<|message|>":
                self._field = "reasoning_content" if self._head.strip().startswith("analysis") else "content"
            else:
                self._field = None
            self._head = ""

    def flush(self) -> list[Part]:
        held, self._held = self._held, ""
        return self._take(held)

    def _take(self, text: str) -> list[Part]:
        if self._field is None:
            self._head += text
            return []
        return [(self._field, text)] if text else []


def _overlap(text: str, marks: tuple[str, ...]) -> int:
    """How many characters at the end may become one of the marks."""
    longest = min(max(map(len, marks)) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if any(mark.startswith(text[-n:]) for mark in marks)), 0)
