"""An answer's choices in OpenAI's form. What can be told from the answer itself is mended for every provider.

Only what differs is written anew: values that are as OpenAI has them stay byte for byte.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal

import msgspec

from workernode.remote.dialects.finish import FAILED, finish_reason
from workernode.remote.dialects.request import NULL
from workernode.remote.errors import failed_inside, failure_inside, strange

Object = dict[str, msgspec.Raw]
Part = Literal["delta", "message", "text"]
"""Of a chat's chunk, of a whole chat, of a completion in both forms."""

TOOL_CALLS_MAX = 1024
"""Of one choice: what has more is no answer."""
STREAM_CALLS_MAX = 4096
"""Of all choices of a stream together, each of which is remembered and looked at with the next."""
NAME_CHARS_MAX = 256
"""So much of a function's name is remembered, so that it is said once; OpenAI's have 64 at most."""
_FUNCTION = msgspec.Raw(b'"function"')
_ASSISTANT = msgspec.Raw(b'"assistant"')
_EMPTY = msgspec.Raw(b'""')
COMPLETE = ("tool_calls", "stop")
"""The finish reasons of an answer of which nothing was cut off, as the arguments of its last call would be."""
NO_ARGUMENTS = msgspec.Raw(b'"{}"')
"""What a function without parameters is called with. Some providers say nothing, which no reader of JSON takes."""
_list = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


class Choices:
    """The choices of one answer, whole or chunk by chunk.

    ``first`` is the index of the first one, where an answer is put together of several; ``cumulative``: each chunk
    holds the text of all before. ``usage`` is what a choice said of it, which belongs beside the choices.
    ``sent`` is the request's body, which an error may repeat.

    Raises :class:`workernode.remote.errors.Failure` where a choice holds an error, or is none.
    """

    def __init__(
        self, *, first: int = 0, cumulative: bool = False, key: str | None = None, sent: bytes | None = None
    ) -> None:
        self.usage: msgspec.Raw | None = None
        self.always = bool(first or cumulative)
        """Whether even choices that look like OpenAI's are to be mended."""
        self._first = first
        self._cumulative = cumulative
        self._key = key
        self._sent = sent
        self.begun: set[int] = set()
        """Those of which something came already; to be told of what came without being mended."""
        self._messages: set[int] = set()
        """Those that are said in messages instead of deltas."""
        self._said: dict[tuple[int, str], str] = {}
        self._calls: dict[int, list[str]] = {}
        self._names: dict[tuple[int, int], str] = {}
        """Of functions, by the index of their choice and that of their call."""
        self._places: dict[tuple[int, int], int] = {}
        """Where the calls are whose index the provider uses for several, one after the other."""

    def mended(self, choices: msgspec.Raw, *, part: Part, said: bool = False) -> msgspec.Raw:
        """OpenAI's form. ``part`` is where a choice has its text; ``said``: chunks before this one had some."""
        try:
            parsed = _list.decode(choices)
            for number, choice in enumerate(parsed):
                self._mend(choice, number, part, said=said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise strange() from None
        return _raw(parsed)

    def _mend(self, choice: Object, number: int, part: Part, *, said: bool) -> None:
        if choice.get("error", NULL) != NULL:
            raise failure_inside(b'{"error":' + bytes(choice["error"]) + b"}", key=self._key, sent=self._sent)
        if (usage := choice.pop("usage", NULL)) != NULL:
            self.usage = usage
        given = _value(choice, "index")
        index = given if type(given) is int and given >= 0 else number
        if index != given or self._first:
            index += self._first
            choice["index"] = _raw(index)
        self._mend_finish_reason(choice)
        if part == "text":
            self._mend_cumulative(choice, index, "text")
            return
        spoken = choice.get(part, NULL)
        if spoken == NULL and part == "delta":
            spoken = choice.pop("message", NULL)  # a chunk in the form of a whole answer
            if said and index in self.begun and index not in self._messages:
                spoken = NULL  # which it is: it repeats what the deltas before it said
            elif spoken != NULL:
                self._messages.add(index)
        message = _object.decode(spoken) if spoken != NULL else {}
        self._mend_message(message, index, whole=part == "message", ends=_value(choice, "finish_reason") in COMPLETE)
        choice[part] = _raw(message)

    def _mend_finish_reason(self, choice: Object) -> None:
        theirs = _value(choice, "finish_reason")
        if theirs is None:
            return
        reason = finish_reason(str(theirs))
        if reason in FAILED:
            raise failed_inside()
        if reason != theirs:
            choice["finish_reason"] = _raw(reason)

    def _mend_message(self, message: Object, index: int, *, whole: bool, ends: bool) -> None:
        if whole or index not in self.begun:
            self.begun.add(index)
            role = message.get("role", NULL)
            if not begins(role, b'"') or role == _EMPTY:
                rest = {**message, "role": _ASSISTANT}
                message.clear()
                message.update({"role": _ASSISTANT} | rest)
        else:
            message.pop("role", None)  # clients put the parts of each field together, this one too
        if begins(message.get("content", NULL), b"["):
            _divide_parts(message)
        # Two names of the same text: the one that more clients know.
        reasoning = message.pop("reasoning", NULL)
        if reasoning != NULL and message.get("reasoning_content", NULL) == NULL:
            message["reasoning_content"] = reasoning
        for name in ("content", "reasoning_content"):
            self._mend_cumulative(message, index, name)
        if message.get("tool_calls", NULL) != NULL:
            self._mend_calls(message, index, whole=whole, ends=ends)

    def _mend_cumulative(self, holder: Object, index: int, name: str) -> None:
        if not self._cumulative or holder.get(name, NULL) == NULL:
            return
        text = _value(holder, name)
        before = self._said.get((index, name), "")
        if isinstance(text, str) and text.startswith(before):
            holder[name] = _raw(text[len(before) :])
            self._said[index, name] = text

    def _mend_calls(self, message: Object, index: int, *, whole: bool, ends: bool) -> None:
        calls = _list.decode(message["tool_calls"])
        for call in calls:
            is_new = whole or self._mend_call_index(call, index)
            if is_new and not _value(call, "id"):
                call["id"] = _raw(f"call_{secrets.token_hex(12)}")
            if is_new and call.get("type", NULL) == NULL:
                call["type"] = _FUNCTION
            if call.get("function", NULL) != NULL:
                function = _object.decode(call["function"])
                mended = not whole and self._mend_name(function, (index, _value(call, "index")), is_new=is_new)
                arguments = function.get("arguments", NULL)
                if begins(arguments, b"{"):
                    function["arguments"] = _raw(bytes(arguments).decode())
                    mended = True
                elif is_new and ends and arguments in (NULL, _EMPTY):
                    function["arguments"] = NO_ARGUMENTS
                    mended = True
                if mended:
                    call["function"] = _raw(function)
            if not is_new:
                for name in ("id", "type"):
                    call.pop(name, None)  # clients put the parts of each field together, these too
        message["tool_calls"] = _raw(calls)

    def _mend_name(self, function: Object, place: tuple[int, int], *, is_new: bool) -> bool:
        """Say a function's name once; it may come in parts. Whether it was said before."""
        name, said = _value(function, "name"), "" if is_new else self._names.get(place, "")
        if not isinstance(name, str) or not name:
            return False
        if name == said:
            del function["name"]
            return True
        self._names[place] = (said + name)[:NAME_CHARS_MAX]
        return False

    def _mend_call_index(self, call: Object, index: int) -> bool:
        """Number a fragment that has no index; whether a call begins with it, which has an id and a name then."""
        begun = self._calls.setdefault(index, [])
        given, own = _value(call, "index"), str(_value(call, "id") or "")
        function = call.get("function", NULL)
        names_function = function != NULL and bool(_value(_object.decode(function), "name"))
        if type(given) is int and given >= 0:
            at = self._places.get((index, given), given)
            if own and names_function and at < len(begun) and begun[at] not in ("", own):
                at = self._places[index, given] = len(begun)
                self.always = True  # what follows has the provider's index as well
            if at != given:
                call["index"] = _raw(at)
        else:
            at = begun.index(own) if own in begun and own else len(begun) if own or names_function else len(begun) - 1
            at = max(at, 0)
            call["index"] = _raw(at)
        if at >= TOOL_CALLS_MAX:
            raise strange()
        is_new = at >= len(begun)
        begun += [own] * (at + 1 - len(begun))
        if is_new and sum(map(len, self._calls.values())) > STREAM_CALLS_MAX:
            raise strange()
        return is_new


def _divide_parts(message: Object) -> None:
    """Content as a list of parts becomes text, and what of it was thought becomes reasoning."""
    parts = _value(message, "content")
    text = "".join(_text(part) for part in parts if not _is_thought(part))
    thought = "".join(_text(part) for part in parts if _is_thought(part))
    message["content"] = _raw(text)
    if thought and message.get("reasoning_content", NULL) == NULL:
        message["reasoning_content"] = _raw(thought)


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")


def _text(part: Any) -> str:
    if isinstance(part, dict):
        return "".join(_text(value) for name, value in part.items() if name in ("text", "thinking", "reasoning"))
    if isinstance(part, list):
        return "".join(map(_text, part))
    return part if isinstance(part, str) else ""


def begins(value: msgspec.Raw, with_: bytes) -> bool:
    """Whether a value, which may be large, begins with one character."""
    return bytes(memoryview(value)[:1]) == with_


def _value(holder: Object, name: str) -> Any:
    raw = holder.get(name, NULL)
    return None if raw == NULL else msgspec.json.decode(raw)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(value))
