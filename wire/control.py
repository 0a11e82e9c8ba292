"""What travels on a node's control topic: a gateway's or an operator's words to one node."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from wire.request import Id, Millis

StopReason = Literal["cancelled", "expired", "superseded", "again", "done", "unknown", "poison"]
"""Why an attempt shall stop.

``cancelled``: the client is gone. ``expired``: the deadline passed. ``superseded``: another attempt took over; hand
the request back, which changes nothing where the delivery is another's by now. ``again``: it began too early; hand
back. ``done``: the request has its end. ``unknown``: the gateway does not know the request, or no more.
``poison``: it brought down too many nodes; write the dead letter.
"""

WORDS_MAX = 16_384
"""Of one message: more than its 256 KiB have room for. So many that are none take a reader a moment to pass over."""
SENTENCE_CHARS_MAX = 1000
COUNT_WAIT_S = 5.0
"""A gateway waits so long for the answer to ``count``; a node need not work on it any longer."""
COUNT_PROMPTS_MAX = 1024
COUNT_BYTES_MAX = 1024 * 1024
"""Of the prompts of one ``count`` together, in UTF-8: other words for the node wait behind it on the same topic."""


class Acked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="acked"):
    """Link acknowledgement: every frame of ``line`` up to ``through`` has arrived.

    ``missing_until`` > 0 says that frames after ``through`` and before it are missing although later ones came.
    """

    line: Millis
    through: int
    missing_until: int = 0


class AreYouAlive(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="alive?"):
    """Say :class:`wire.piece.Alive` about this attempt."""

    attempt_id: Id


class Go(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="go"):
    """Begin. ``number`` counts the attempts of the request from 1; ``remaining_ms`` is left until its deadline.

    ``prefix`` is text that the client has seen already from an earlier attempt: continue after it. ``alone``: two nodes
    died with this request. Run it beside no other such attempt: wait, as if parked, until the node has none; say
    ``started`` with ``begun`` and have it acknowledged before the engine sees it.
    """

    attempt_id: Id
    number: int
    remaining_ms: int
    prefix: str | None = None
    alone: bool = False


class Park(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="park"):
    """Another attempt holds the request, or its charge is not safe yet: free the slot, keep the delivery, and wait."""

    attempt_id: Id


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="stop"):
    """Stop this attempt."""

    attempt_id: Id
    reason: StopReason


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="accepted"):
    """This attempt's end is the request's end: publish its charge, then acknowledge the request."""

    attempt_id: Id


class Settle(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="settle"):
    """An earlier attempt was accepted, but never said ``settled``: publish its identical charge, then acknowledge."""

    attempt_id: Id
    charge: bytes


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="drain"):
    """Take no new work, finish what is begun, and leave."""


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="pause"):
    """Take no new work until ``resume``. ``sentence`` says why, for people: the node's heartbeats repeat it."""

    sentence: Annotated[str, msgspec.Meta(max_length=SENTENCE_CHARS_MAX)] | None = None


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="resume"):
    """Take work again."""


class CredentialLimited(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="limited"):
    """The provider limits this credential (a hash of provider and key) until then."""

    credential: str
    until_ms: Millis


class CountTokens(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="count"):
    """Say :class:`wire.piece.Counted`: how many tokens each of these texts is as the prompt of a completion.

    Only for a node whose presence says that it ``counts``. It costs nobody a slot, and is no request: nothing is
    charged, and a question that is lost is not asked again.
    """

    question_id: Id
    prompts: Annotated[list[str], msgspec.Meta(max_length=COUNT_PROMPTS_MAX)]


Word = (
    Acked
    | AreYouAlive
    | Go
    | Park
    | Stop
    | Accepted
    | Settle
    | Drain
    | Pause
    | Resume
    | CredentialLimited
    | CountTokens
)


class ControlMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="control"):
    """Words for one node, in order. They arrive or are lost together: an acknowledgement never without its verdict.

    Each is read on its own (:func:`wire.codec.decode_word`): one that a node does not know does not cost it the others.
    """

    sender: Id
    words: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=WORDS_MAX)]
