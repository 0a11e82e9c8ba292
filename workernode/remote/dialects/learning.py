"""What a provider's refusal teaches about its dialect: a parameter that it does not know, though OpenAI does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from workernode.prompts import prompts_of
from workernode.remote.dialects.request import NULL, USAGE_ASKED

if TYPE_CHECKING:
    from collections.abc import Set

    from wire.errors import ErrorBody
    from workernode.remote.dialects.dialect import Adapter
    from workernode.remote.dialects.request import Fields


@dataclass(frozen=True)
class _Lesson:
    """``adapter`` helps if the request has ``field``, and the refusal says so by ``words``."""

    adapter: Adapter
    field: str
    words: re.Pattern[str]


_UNKNOWN = r"(unsupported|unknown|unrecogni[sz]ed|unexpected|not support|not permitted|extra_forbidden|not allowed)"


def _lesson(adapter: Adapter, field: str, *words: str) -> _Lesson:
    """All of ``words`` must be there, in any order."""
    return _Lesson(adapter, field, re.compile("".join(f"(?=.*{each})" for each in words), re.IGNORECASE | re.DOTALL))


_LESSONS = (
    _lesson("max-completion-tokens", "max_tokens", r"\bmax_tokens\b", _UNKNOWN),
    _lesson("max-tokens", "max_completion_tokens", r"\bmax_completion_tokens\b", _UNKNOWN),
    _lesson("no-stream-options", "stream_options", r"\bstream_options\b", _UNKNOWN),
    _lesson("system-role", "messages", r"\brole", r"\bdeveloper\b"),
    _lesson("one-choice", "n", r"\bn\b", rf"({_UNKNOWN}|(at most|must be|equal to) 1\b|> ?1\b)"),
    _lesson("one-choice", "n", r"only one (completion )?choice"),
    _lesson("one-choice", "best_of", r"\bbest_of\b", _UNKNOWN),
    _lesson("one-prompt", "prompt", r"\bprompt\b", r"(of type|must be|should be)( an?)?( single| valid)? string"),
)
_OPPOSITE: dict[Adapter, Adapter] = {
    "max-tokens": "max-completion-tokens",
    "max-completion-tokens": "max-tokens",
}
"""A provider that refuses both names of a limit must not have us go back and forth."""
_STATUSES = (400, 422)
_CONDITION = re.compile(r"\b(when|if|unless)\b", re.IGNORECASE)


def lesson(error: ErrorBody, sent: Fields, adapters: Set[Adapter]) -> Adapter | None:
    """The adapter that would have spared the request this refusal; None unless it is plain.

    ``sent`` is what the provider got, ``adapters`` are those that are in use already.
    """
    if error.http_status not in _STATUSES:
        return None
    said = f"{error.param or ''} {error.code} {error.message}"
    for each in _LESSONS:
        if each.adapter in adapters or _OPPOSITE.get(each.adapter) in adapters:
            continue
        if _would_change(each.field, bytes(sent.get(each.field, NULL))) and each.words.match(said):
            return each.adapter
    return None


def holds_for_all(error: ErrorBody) -> bool:
    """Whether a refusal is of a parameter as such, and not of one beside another: vLLM's "n must be 1 when using greedy
    sampling" is about the temperature too, and other requests have another one."""
    return _CONDITION.search(error.message) is None


def _would_change(field: str, value: bytes) -> bool:
    """Whether the adapter for this field would send something else than was sent."""
    match field:
        case "messages":
            return b'"developer"' in value
        case "n" | "best_of":
            return value not in (b"1", b"null")
        case "stream_options":
            # Beside options of the client's own it may be them that the provider does not know.
            return value == bytes(USAGE_ASKED)
        case "prompt":
            return len(prompts_of(msgspec.json.decode(value))) > 1
        case _:
            return value != b"null"
