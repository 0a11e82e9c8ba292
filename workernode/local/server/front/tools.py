"""Tool calls in a model's own words, in the formats of families that are known; streams of them too.

What is no call stays text. Text that may become the beginning of a call is held back until that is clear.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class ToolFormat:
    """How a family writes a call, or a list of them: what it stands between, and what holds the arguments. ``end`` may
    be empty: up to the end of the text. ``within``: marks inside of a call."""

    name: str
    begin: str
    end: str
    arguments: str = "arguments"
    within: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """What may be special tokens, without which no call is found in a text."""
        return (self.begin, self.end, *self.within)


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>")
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", "")
NAMED = ToolFormat("mistral-named", "[TOOL_CALLS]", "", within=("[CALL_ID]", "[ARGS]"))
"""Of newer models: ``[TOOL_CALLS]name[ARGS]{…}``, again for each call."""
LLAMA = ToolFormat("llama3", "{", "", arguments="parameters")
"""Whatever begins as JSON is held back until it ends: ``type`` may come before ``name``."""


@dataclass(frozen=True)
class ToolCall:
    """One call, its arguments as JSON."""

    id: str
    name: str
    arguments: str


def format_of(template: str) -> ToolFormat | None:
    """The format that a chat template asks for, or None if it is not known."""
    if "<tool_call>" in template and "<function=" not in template and "<arg_key>" not in template:
        return HERMES
    if "[TOOL_CALLS]" in template:
        return NAMED if "[ARGS]" in template else MISTRAL
    if "<|python_tag|>" in template or ("ipython" in template and '"parameters"' in template):
        return LLAMA
    return None


class ToolReader:
    """Text in, text and calls out."""

    def __init__(self, format_: ToolFormat, names: Collection[str], *, single: bool = False) -> None:
        """``names`` are those of the tools that there are: without them, JSON of the last family's form is text.
        ``single``: of several calls only the first counts."""
        self._format = format_
        self._names = names
        self._held = ""
        self._inside = False
        self._begun = False
        self._single = single
        self._called = False

    def push(self, text: str) -> list[str | ToolCall]:
        """What is clear with this text."""
        self._held += text
        found: list[str | ToolCall] = []
        while self._held:
            if self._inside:
                end = self._held.find(self._format.end) if self._format.end else -1
                if end < 0:
                    break
                found += self._calls(self._held[:end], self._format.begin, self._format.end)
                self._held, self._inside = self._held[end + len(self._format.end) :], False
            place = self._find()
            if place < 0:
                keep = self._overlap()
                found.append(self._held[: len(self._held) - keep])
                self._held = self._held[len(self._held) - keep :]
                break
            found.append(self._held[:place])
            self._held, self._inside = self._held[place + len(self._format.begin) :], True
        self._begun = self._begun or any(isinstance(each, str) and each.strip() for each in found)
        return [each for each in self._counting(found) if each]

    def flush(self) -> list[str | ToolCall]:
        """What is left at the end of the text."""
        if self._inside:
            return self._counting(self._calls(self._held, self._format.begin, ""))
        return [self._held] if self._held else []

    def _counting(self, found: list[str | ToolCall]) -> list[str | ToolCall]:
        counting: list[str | ToolCall] = []
        for each in found:
            if isinstance(each, str) or not (self._single and self._called):
                counting.append(each)
            self._called = self._called or isinstance(each, ToolCall)
        return counting

    def _find(self) -> int:
        place = self._held.find(self._format.begin)
        if self._format is LLAMA and (self._begun or self._held[:place].strip()):
            return -1  # a call of this family is the whole text
        return place

    def _overlap(self) -> int:
        if self._format is LLAMA and self._begun:
            return 0
        begin = self._format.begin
        for length in range(min(len(begin) - 1, len(self._held)), 0, -1):
            if self._held.endswith(begin[:length]):
                return length
        return 0

    def _calls(self, text: str, before: str, after: str) -> list[str | ToolCall]:
        body = before + text if self._format is LLAMA else text
        try:
            if self._format is NAMED:
                return [self._named(each) for each in body.split(before)]
            read = _read(body)
            calls: list[str | ToolCall] = [self._call(each) for each in (read if isinstance(read, list) else [read])]
        except (ValueError, KeyError, TypeError, RecursionError):
            calls = []
        return calls or [before + text + after]

    def _named(self, text: str) -> ToolCall:
        name, _, arguments = text.partition("[ARGS]")
        name = name.partition("[CALL_ID]")[0].strip()
        if not name or not isinstance(read := _read(arguments), dict):
            raise TypeError
        return ToolCall(_new_id(self._format), name, _written(read))

    def _call(self, fields: Any) -> ToolCall:
        if not isinstance(fields["name"], str):
            raise TypeError
        if self._format is LLAMA and fields["name"] not in self._names:
            raise TypeError
        arguments = fields.get(self._format.arguments, fields.get("arguments", {}))
        return ToolCall(_new_id(self._format), _whole(fields["name"]), _written(arguments))


def _read(text: str) -> Any:
    """JSON, in whose strings lines may be as they are: models write code so."""
    return json.loads(text, strict=False)


def _written(arguments: Any) -> str:
    """As JSON; some models write a string with JSON in it. Raises ValueError for NaN and its like, which are none."""
    if isinstance(arguments, str):
        return _whole(arguments)
    return _whole(json.dumps(arguments, ensure_ascii=False, allow_nan=False))


def _whole(text: str) -> str:
    """With U+FFFD for halves of characters, which JSON may have by their escapes, and no answer on the wire."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _new_id(format_: ToolFormat) -> str:
    # Mistral's templates take nine letters and digits, and nothing else.
    return secrets.token_hex(5)[:9] if format_ in (MISTRAL, NAMED) else f"call_{secrets.token_hex(12)}"
