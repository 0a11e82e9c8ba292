"""What :class:`gateway.requests.conversation.Conversation` decides, for others to carry out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from wire.control import Word
    from wire.errors import ErrorBody
    from wire.usage import Usage


@dataclass(frozen=True)
class Tell:
    """Say a word to a node."""

    node: str
    word: Word


@dataclass(frozen=True)
class Show:
    """Pass a part of the answer to the client."""

    data: bytes


@dataclass(frozen=True)
class Complete:
    """The answer is whole."""

    finish_reason: str | None
    usage: Usage


@dataclass(frozen=True)
class Break:
    """The client gets an error instead of (the rest of) an answer."""

    error: ErrorBody


@dataclass(frozen=True)
class Probe:
    """The holder was asked whether it lives: call the conversation's ``unanswered`` once, after the time to answer."""

    attempt_id: str


@dataclass(frozen=True)
class Verify:
    """Are these nodes really dead? Call the conversation's ``verified`` once, with those that were heard again."""

    nodes: frozenset[str]


@dataclass(frozen=True)
class Forget:
    """The request is acknowledged or will never run: nothing needs to be known of it any more."""


Decision = Tell | Show | Complete | Break | Probe | Verify | Forget
State = Literal["open", "answered", "failed", "cancelled", "expired", "poison"]
