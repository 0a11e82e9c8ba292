"""Words to bytes and back: one version byte, then MessagePack. Events are plain JSON, for readers we do not know.

Unknown fields are skipped, so a newer writer may add some; a change that an old reader must not misread gets a new
version byte. Every decoder raises :class:`wire.errors.UndecodableMessage` for anything else, and nothing else.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import msgspec

from wire.backlog import BacklogReport
from wire.control import ControlMessage, Word
from wire.dead_letter import DeadLetter
from wire.errors import UndecodableMessage
from wire.event import (
    EVENT_BYTES_MAX,
    PREFIX,
    AcceptedData,
    Event,
    EventType,
    GatewayData,
    NodeData,
    PromptData,
    RequestData,
)
from wire.order import CancelRequest
from wire.piece import Echo, Frame, LinkMessage
from wire.presence import PRESENCE_BYTES_MAX, CredentialPresence, Presence, RollCall
from wire.request import Request

VERSION = 1
_HEAD = bytes([VERSION])
_VALUE = re.compile(r""" (['"]).*\1""", re.DOTALL)

EventData = RequestData | NodeData | GatewayData | AcceptedData | PromptData

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Decoder(Protocol[T_co]):
    def decode(self, data: Any, /) -> T_co: ...


_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
_request: _Decoder[Request] = msgspec.msgpack.Decoder(Request)
_dead_letter: _Decoder[DeadLetter] = msgspec.msgpack.Decoder(DeadLetter)
_link: _Decoder[LinkMessage | Echo] = msgspec.msgpack.Decoder(LinkMessage | Echo)
_frame: _Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
_control: _Decoder[ControlMessage | Echo] = msgspec.msgpack.Decoder(ControlMessage | Echo)
_word: _Decoder[Word] = msgspec.msgpack.Decoder(Word)
_presence: _Decoder[Presence] = msgspec.msgpack.Decoder(Presence)
_credential: _Decoder[CredentialPresence] = msgspec.msgpack.Decoder(CredentialPresence)
_roll_call: _Decoder[RollCall] = msgspec.msgpack.Decoder(RollCall)
_backlog: _Decoder[BacklogReport] = msgspec.msgpack.Decoder(BacklogReport)
_order: _Decoder[CancelRequest] = msgspec.msgpack.Decoder(CancelRequest)
_event: _Decoder[Event] = msgspec.json.Decoder(Event)
_request_data: _Decoder[RequestData] = msgspec.json.Decoder(RequestData)
_node_data: _Decoder[NodeData] = msgspec.json.Decoder(NodeData)
_gateway_data: _Decoder[GatewayData] = msgspec.json.Decoder(GatewayData)
_accepted_data: _Decoder[AcceptedData] = msgspec.json.Decoder(AcceptedData)
_prompt_data: _Decoder[PromptData] = msgspec.json.Decoder(PromptData)


def encode(
    word: Request
    | DeadLetter
    | LinkMessage
    | ControlMessage
    | Echo
    | Presence
    | RollCall
    | BacklogReport
    | CancelRequest,
) -> bytes:
    """A whole message."""
    return _HEAD + _encoder.encode(word)


def encode_frame(frame: Frame) -> bytes:
    """One frame, to be carried inside a :class:`LinkMessage`."""
    return _encoder.encode(frame)


def encode_word(word: Word) -> msgspec.Raw:
    """One word, to be carried inside a :class:`ControlMessage`."""
    return msgspec.Raw(_encoder.encode(word))


def encode_event(event: Event) -> bytes:
    """A CloudEvent in structured JSON."""
    return _json_encoder.encode(event)


def encode_event_data(data: EventData) -> msgspec.Raw:
    """The ``data`` of an event."""
    return msgspec.Raw(_json_encoder.encode(data))


def encode_told(kind: EventType, event_id: str, source: str, subject: str, data: EventData, time_ms: int) -> bytes:
    """An event in bytes: what ``source`` tells about ``subject`` at ``time_ms``, in Unix milliseconds."""
    time = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = encode_event_data(data)
    return encode_event(Event(id=event_id, source=source, type=PREFIX + kind, time=time, subject=subject, data=told))


def decode_request(message: bytes) -> Request:
    """What a gateway put into a request topic."""
    return _decode(_request, message)


def decode_dead_letter(message: bytes) -> DeadLetter:
    """What a node put into a topic of dead letters."""
    return _decode(_dead_letter, message)


def decode_link(message: bytes) -> LinkMessage | Echo:
    """What a node sent on a link."""
    return _decode(_link, message)


def decode_frame(frame: msgspec.Raw) -> Frame:
    """One frame of a :class:`LinkMessage`."""
    return _checked(_frame, frame)


def decode_control(message: bytes) -> ControlMessage | Echo:
    """What a gateway or an operator sent to a node."""
    return _decode(_control, message)


def decode_word(word: msgspec.Raw) -> Word:
    """One word of a :class:`ControlMessage`."""
    return _checked(_word, word)


def decode_presence(message: bytes) -> Presence:
    """A heartbeat."""
    return _decode(_presence, _small(message))


def decode_credential(message: bytes) -> CredentialPresence:
    """The part of a heartbeat that other nodes of its credential read."""
    return _decode(_credential, _small(message))


def decode_roll_call(message: bytes) -> RollCall:
    """A call for heartbeats."""
    return _decode(_roll_call, message)


def decode_backlog(message: bytes) -> BacklogReport:
    """What a gateway told the others."""
    return _decode(_backlog, message)


def decode_order(message: bytes) -> CancelRequest:
    """What an operator wants of gateways."""
    return _decode(_order, message)


def decode_event(message: bytes) -> Event:
    """An event; its ``data`` stays raw until its type is known."""
    if len(message) > EVENT_BYTES_MAX:
        raise UndecodableMessage(f"An event has at most {EVENT_BYTES_MAX} bytes; this one has {len(message)}.")
    return _checked(_event, message)


def decode_request_data(data: msgspec.Raw) -> RequestData:
    """The ``data`` of a request event."""
    return _checked(_request_data, data)


def decode_node_data(data: msgspec.Raw) -> NodeData:
    """The ``data`` of a node event."""
    return _checked(_node_data, data)


def decode_gateway_data(data: msgspec.Raw) -> GatewayData:
    """The ``data`` of ``gateway.refusals``."""
    return _checked(_gateway_data, data)


def decode_accepted_data(data: msgspec.Raw) -> AcceptedData:
    """The ``data`` of ``gateway.accepted``."""
    return _checked(_accepted_data, data)


def decode_prompt_data(data: msgspec.Raw) -> PromptData:
    """The ``data`` of ``request.prompt``."""
    return _checked(_prompt_data, data)


def _small(heartbeat: bytes) -> bytes:
    if len(heartbeat) > PRESENCE_BYTES_MAX:
        raise UndecodableMessage(f"A heartbeat has at most {PRESENCE_BYTES_MAX} bytes; this one has {len(heartbeat)}.")
    return heartbeat


def _decode(decoder: _Decoder[T], message: bytes) -> T:
    if not message or message[0] != VERSION:
        raise UndecodableMessage("This message is not of the version that this program speaks.")
    return _checked(decoder, memoryview(message)[1:])


def _checked(decoder: _Decoder[T], data: Any) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec's own words name the field and the expected type, and quote a wrong value: that part is left out.
        raise UndecodableMessage(f"This message cannot be read: {_VALUE.sub('', str(error))}") from None
