"""Examples of what a node and a gateway say to each other about attempts: frames on links, words on control topics."""

from __future__ import annotations

from typing import get_args

import msgspec

from tests.golden.sample import AT, ATTEMPT, ERROR, GATEWAY, NODE, QUESTION, REQUEST, USAGE
from wire import codec
from wire.control import (
    Accepted,
    Acked,
    AreYouAlive,
    ControlMessage,
    CountTokens,
    CredentialLimited,
    Drain,
    Go,
    Park,
    Pause,
    Resume,
    Settle,
    Stop,
    StopReason,
    Word,
)
from wire.errors import ErrorBody
from wire.piece import Alive, Content, Counted, Echo, Failed, Finished, Frame, LinkMessage, Settled, Started
from wire.usage import Usage

FRAMES: dict[str, Frame] = {
    "started": Started(attempt_id=ATTEMPT, request_id=REQUEST),
    "started.begun": Started(attempt_id=ATTEMPT, request_id=REQUEST, begun=True, continues=True),
    "content": Content(attempt_id=ATTEMPT, number=1, data=b'{"choices":[]}\n'),
    "finished": Finished(attempt_id=ATTEMPT, number=2, usage=USAGE, charge=b"{}", finish_reason="stop"),
    "finished.cancelled": Finished(
        attempt_id=ATTEMPT, number=2, usage=Usage(completion_tokens=3, estimated=True), charge=b"{}", cancelled=True
    ),
    "failed": Failed(attempt_id=ATTEMPT, number=1, error=ErrorBody(code="server_error", message="It broke.")),
    "failed.again": Failed(attempt_id=ATTEMPT, number=1, error=ERROR, again=True),
    "alive": Alive(attempt_id=ATTEMPT, holding=True),
    "alive.not": Alive(attempt_id=ATTEMPT, holding=False),
    "settled": Settled(attempt_id=ATTEMPT, request_id=REQUEST),
    "counted": Counted(question_id=QUESTION, tokens=[2, 0, 300]),
    "counted.not": Counted(question_id=QUESTION),
}


def link(*frames: Frame, first: int = 1) -> LinkMessage:
    raw = [msgspec.Raw(codec.encode_frame(frame)) for frame in frames]
    return LinkMessage(node=NODE, line=AT, first=first, frames=raw)


LINKS: dict[str, LinkMessage | Echo] = {
    **{f"link.{name}": link(frame) for name, frame in FRAMES.items()},
    "link.several": link(FRAMES["started.begun"], FRAMES["content"], FRAMES["finished"], first=41),
    "echo": Echo(sender=NODE, sent_ms=AT),
}

WORDS: dict[str, Word] = {
    "acked": Acked(line=AT, through=41),
    "acked.gap": Acked(line=AT, through=41, missing_until=44),
    "alive": AreYouAlive(attempt_id=ATTEMPT),
    "go": Go(attempt_id=ATTEMPT, number=1, remaining_ms=599_500),
    "go.prefix": Go(attempt_id=ATTEMPT, number=2, remaining_ms=599_500, prefix="Hello, "),
    "park": Park(attempt_id=ATTEMPT),
    **{f"stop.{reason}": Stop(attempt_id=ATTEMPT, reason=reason) for reason in get_args(StopReason)},
    "accepted": Accepted(attempt_id=ATTEMPT),
    "settle": Settle(attempt_id=ATTEMPT, charge=b"{}"),
    "drain": Drain(),
    "pause": Pause(),
    "pause.sentence": Pause(sentence="Paused by alice: the provider moves."),
    "resume": Resume(),
    "limited": CredentialLimited(credential="0123456789abcdef", until_ms=AT + 60_000),
    "count": CountTokens(question_id=QUESTION, prompts=["Hi", "", "größe 🦙"]),
}


def control(*words: Word) -> ControlMessage:
    return ControlMessage(sender=GATEWAY, words=[codec.encode_word(word) for word in words])


CONTROLS = {
    **{f"control.{name}": control(word) for name, word in WORDS.items()},
    "control.several": control(WORDS["acked"], WORDS["accepted"]),
}
