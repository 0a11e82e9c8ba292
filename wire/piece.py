"""What travels on the link, node → gateway: the pieces of an attempt's answer, two short words about attempts, and
counts of tokens.

Pieces of one attempt are numbered without a gap: ``Started`` is 0, then ``Content`` 1, 2, …, and one ``Finished``
or ``Failed`` at the end. The link (:mod:`wire.link`) numbers frames again, for all attempts together. ``Started`` and
ends may come again with the same number: a node repeats them until it hears the gateway's word about them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from wire.control import COUNT_PROMPTS_MAX
from wire.errors import ErrorBody
from wire.number import INTEGER_MAX
from wire.request import Id, Millis
from wire.usage import Tokens, Usage

PIECE_BYTES_MAX = 64 * 1024
"""Content above this is cut into several pieces, so that no answer blocks the others on the link."""

FRAMES_MAX = 16_384
"""Of one message: more than its 256 KiB have room for, as of words on a control topic."""

Number = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]


class Started(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="started"):
    """A node has taken the request, and waits for the gateway's word.

    ``begun``: its engine works, or is about to. An attempt that was parked, or shall run alone, says so after ``go``
    and waits until the gateway has acknowledged it before its engine sees the request: only from then on does its
    silent death count against the request.

    ``continues``: its engine can go on after a text that it is given (``prefix`` of :class:`wire.control.Go`).

    Sent again (the same attempt id) when that word does not come: the gateway repeats it.
    """

    attempt_id: Id
    request_id: Id
    begun: bool = False
    continues: bool = False


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="content"):
    """A part of the answer.

    Of a stream: whole JSON chunk objects, one per line, each line ended by ``\\n``, as the client shall see them.
    Of a whole answer: the next bytes of its JSON body, cut anywhere.
    """

    attempt_id: Id
    number: Number
    data: bytes


class Finished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="finished"):
    """The answer is complete, or was cut short because the client went (``cancelled``).

    ``charge`` is the complete billing event (:mod:`wire.event`, JSON) that this node publishes if the gateway accepts
    this end. The gateway keeps it, so that a later attempt can publish the identical one.
    """

    attempt_id: Id
    number: Number
    usage: Usage
    charge: bytes
    finish_reason: str | None = None
    cancelled: bool = False


class Failed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="failed"):
    """This attempt ended without an answer. ``again``: the node hands the request back, and another attempt follows."""

    attempt_id: Id
    number: Number
    error: ErrorBody
    again: bool = False


class Alive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="alive"):
    """The answer to ``alive?``: whether this node still works on the attempt.

    Not ``holding``, and unasked: the request was handed back before the attempt began.
    """

    attempt_id: Id
    holding: bool


class Settled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="settled"):
    """The charge is in the results topic and the request acknowledged: the gateway may forget it.

    ``abandoned``: nothing was charged, because the gateway was taken for dead. Should it live, it charges by itself
    what it had accepted.
    """

    attempt_id: Id
    request_id: Id
    abandoned: bool = False


class Counted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="counted"):
    """The answer to ``count``: a number for each prompt, in their order; no ``tokens``: the node cannot tell now."""

    question_id: Id
    tokens: Annotated[list[Tokens], msgspec.Meta(max_length=COUNT_PROMPTS_MAX)] | None = None


AttemptFrame = Started | Content | Finished | Failed | Alive | Settled
Frame = AttemptFrame | Counted
End = Finished | Failed


class LinkMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="link"):
    """Consecutive frames of one node for one gateway, the first of which has number ``first``.

    ``line`` tells apart the lines that a node opens to the same gateway one after the other (Unix milliseconds of the
    opening, or more): frames of each are numbered from 1, and an older line is dead once a newer one was heard.
    """

    node: Id
    line: Millis
    first: Number
    frames: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=FRAMES_MAX)]


class Echo(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="echo"):
    """Sent by a process to its own topic: when it comes back, the path works, and another's silence means something."""

    sender: Id
    sent_ms: Millis
