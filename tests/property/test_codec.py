from __future__ import annotations

import contextlib
import pickle
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wire import codec
from wire.backlog import BacklogReport, ModelBacklog
from wire.control import (
    Accepted,
    Acked,
    AreYouAlive,
    ControlMessage,
    CredentialLimited,
    Drain,
    Go,
    Park,
    Pause,
    Resume,
    Settle,
    Stop,
)
from wire.dead_letter import DeadLetter
from wire.errors import ErrorBody, UndecodableMessage
from wire.event import Durations, Event, GatewayData, NodeData, RequestData, Times
from wire.number import INTEGER_MAX
from wire.piece import Alive, Content, Echo, Failed, Finished, LinkMessage, Settled, Started
from wire.presence import PLACES_MAX, Presence, RollCall
from wire.request import HOPS_MAX, Endpoint, Origin, Request
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=96)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
numbers = st.integers(0, INTEGER_MAX)
signed = st.integers(-(2**63), 2**64 - 1)
places = st.integers(0, PLACES_MAX)


def of(cls: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects of a struct: each optional field is there or left out."""
    required = {field.name for field in msgspec.structs.fields(cls) if field.required}
    assert required <= set(fields), f"{cls.__name__}: {required - set(fields)}"
    chosen = {name: value for name, value in fields.items() if name in required}
    optional = {name: value for name, value in fields.items() if name not in required}
    return st.fixed_dictionaries(chosen, optional=optional).map(lambda values: cls(**values))


maybe_text = st.none() | text
maybe_number = st.none() | numbers
usages = of(
    Usage,
    prompt_tokens=st.integers(0, INTEGER_MAX),
    completion_tokens=numbers,
    cached_tokens=numbers,
    reasoning_tokens=numbers,
    estimated=st.booleans(),
)
errors = of(
    ErrorBody,
    code=text,
    message=text,
    type=text,
    param=maybe_text,
    http_status=st.integers(100, 599),
    retryable=st.booleans(),
    retry_after_ms=maybe_number,
)
requests = of(
    Request,
    request_id=ids,
    model=text,
    endpoint=st.sampled_from(get_args(Endpoint)),
    body=st.binary(max_size=200),
    gateway=ids,
    received_ms=numbers,
    deadline_ms=numbers,
    stream=st.booleans(),
    usage_asked=st.booleans(),
    key_id=maybe_text,
    user_agent=maybe_text,
    n=maybe_number,
    max_tokens=maybe_number,
    origin=st.none()
    | of(Origin, client_request_id=st.none() | st.text(max_size=128), via=st.lists(ids, max_size=HOPS_MAX)),
)
dead_letters = of(
    DeadLetter,
    request=requests,
    reason=st.just("poison"),
    message=text,
    node=ids,
    at_ms=numbers,
)
frames = st.one_of(
    of(Started, attempt_id=ids, request_id=ids, begun=st.booleans(), continues=st.booleans()),
    of(Content, attempt_id=ids, number=numbers, data=st.binary(max_size=200)),
    of(
        Finished,
        attempt_id=ids,
        number=numbers,
        usage=usages,
        charge=st.binary(max_size=200),
        finish_reason=maybe_text,
        cancelled=st.booleans(),
    ),
    of(Failed, attempt_id=ids, number=numbers, error=errors, again=st.booleans()),
    of(Alive, attempt_id=ids, holding=st.booleans()),
    of(Settled, attempt_id=ids, request_id=ids, abandoned=st.booleans()),
)
echoes = of(Echo, sender=ids, sent_ms=numbers)
links = of(
    LinkMessage,
    node=ids,
    line=numbers,
    first=numbers,
    frames=st.lists(frames.map(codec.encode_frame).map(msgspec.Raw), max_size=4),
)
reasons = st.sampled_from(["cancelled", "expired", "superseded", "again", "done", "unknown", "poison"])
words = st.one_of(
    of(Acked, line=numbers, through=signed, missing_until=signed),
    of(AreYouAlive, attempt_id=ids),
    of(Go, attempt_id=ids, number=signed, remaining_ms=signed, prefix=maybe_text, alone=st.booleans()),
    of(Park, attempt_id=ids),
    of(Stop, attempt_id=ids, reason=reasons),
    of(Accepted, attempt_id=ids),
    of(Settle, attempt_id=ids, charge=st.binary(max_size=200)),
    of(Drain),
    of(Pause),
    of(Resume),
    of(CredentialLimited, credential=text, until_ms=numbers),
)
controls = of(ControlMessage, sender=ids, words=st.lists(words.map(codec.encode_word), max_size=4))
presences = of(
    Presence,
    node=ids,
    name=text,
    model=text,
    type=st.sampled_from(["static", "remote", "local"]),
    version=text,
    state=st.sampled_from(
        ["starting", "ready", "rate_limited", "unreachable", "paused", "draining", "stopped", "misconfigured"]
    ),
    slots=places,
    sent_ms=numbers,
    started_ms=numbers,
    busy=places,
    parked=places,
    service_ms=maybe_number,
    sentence=maybe_text,
    until_ms=maybe_number,
    endpoints=st.lists(text, max_size=3).map(tuple),
    modalities=st.lists(text, max_size=3).map(tuple),
    context_length=maybe_number,
    continues=st.booleans(),
    provider=maybe_text,
    credential=maybe_text,
    requests_per_min=st.none() | st.integers(1, INTEGER_MAX),
    tokens_per_min=st.none() | st.integers(1, INTEGER_MAX),
    limited_until_ms=maybe_number,
)
roll_calls = of(RollCall, sender=ids)
reports = of(
    BacklogReport,
    gateway=ids,
    sent_ms=numbers,
    models=st.lists(of(ModelBacklog, model=text, waiting=numbers, running=numbers, taken=numbers), max_size=3).map(
        tuple
    ),
)
times = of(Times, received_ms=maybe_number, published_ms=maybe_number, taken_ms=maybe_number, settled_ms=maybe_number)
durations = of(Durations, queue_ms=maybe_number, total_ms=maybe_number)
request_data = of(
    RequestData,
    request_id=ids,
    endpoint=text,
    model=text,
    status=st.sampled_from(["answered", "refused", "failed", "cancelled", "expired", "dead"]),
    stream=st.booleans(),
    attempt_id=st.none() | ids,
    attempt=maybe_number,
    usage=usages,
    times=times,
    durations=durations,
    finish_reason=maybe_text,
    message=maybe_text,
    key_id=maybe_text,
    node=maybe_text,
    n=maybe_number,
)
node_data = of(
    NodeData, node=text, name=text, model=text, node_type=text, version=text, message=maybe_text, until_ms=maybe_number
)
gateway_data = of(
    GatewayData,
    gateway=text,
    version=text,
    since_ms=numbers,
    until_ms=numbers,
    refused=st.dictionaries(st.text("0123456789", max_size=3), numbers, max_size=3),
)

DECODERS: list[Callable[[bytes], Any]] = [
    codec.decode_request,
    codec.decode_dead_letter,
    codec.decode_link,
    codec.decode_control,
    codec.decode_presence,
    codec.decode_roll_call,
    codec.decode_backlog,
    codec.decode_order,
    codec.decode_event,
    lambda raw: codec.decode_frame(msgspec.Raw(raw)),
    lambda raw: codec.decode_word(msgspec.Raw(raw)),
    lambda raw: codec.decode_request_data(msgspec.Raw(raw)),
    lambda raw: codec.decode_node_data(msgspec.Raw(raw)),
    lambda raw: codec.decode_gateway_data(msgspec.Raw(raw)),
]


@given(requests)
def test_any_request_comes_back(word: Request) -> None:
    assert codec.decode_request(codec.encode(word)) == word


@given(dead_letters)
def test_any_dead_letter_comes_back(word: DeadLetter) -> None:
    assert codec.decode_dead_letter(codec.encode(word)) == word


@given(links | echoes)
def test_any_link_message_comes_back(word: LinkMessage | Echo) -> None:
    assert codec.decode_link(codec.encode(word)) == word


@given(frames)
def test_any_frame_comes_back(frame: Any) -> None:
    assert codec.decode_frame(msgspec.Raw(codec.encode_frame(frame))) == frame


@given(words)
def test_any_word_comes_back(word: Any) -> None:
    assert codec.decode_word(codec.encode_word(word)) == word


@given(controls | echoes)
def test_any_control_message_comes_back(word: ControlMessage | Echo) -> None:
    assert codec.decode_control(codec.encode(word)) == word


@given(presences, roll_calls)
def test_any_heartbeat_and_roll_call_comes_back(presence: Presence, roll_call: RollCall) -> None:
    assert codec.decode_presence(codec.encode(presence)) == presence
    assert codec.decode_roll_call(codec.encode(roll_call)) == roll_call


@given(reports)
def test_any_report_of_a_backlog_comes_back(report: BacklogReport) -> None:
    assert codec.decode_backlog(codec.encode(report)) == report


@given(request_data | node_data | gateway_data, text)
def test_any_event_comes_back(data: RequestData | NodeData | GatewayData, source: str) -> None:
    event = Event(id="id", source=source, type="t", time="now", subject="s", data=codec.encode_event_data(data))
    back = codec.decode_event(codec.encode_event(event))
    assert back == event
    if isinstance(data, RequestData):
        assert codec.decode_request_data(back.data) == data
    elif isinstance(data, GatewayData):
        assert codec.decode_gateway_data(back.data) == data
    else:
        assert codec.decode_node_data(back.data) == data


# What a decoder may meet that random bytes would seldom hit: real heads with torn, huge or hostile insides.
LINK = codec.encode(LinkMessage(node="node", line=1, first=1, frames=[]))
CONTROL = codec.encode(ControlMessage(sender="gate", words=[]))
hostile = st.sampled_from(
    [
        b"",
        b"\x00",
        b"\x01",
        b"\x02",
        b"\x01\xc1",
        b"\x01\xc0",
        LINK[:-1] + b"\xdd\xff\xff\xff\xff",
        LINK[:-1] + b"\xdd\x00\xff\xff\xff\xc0",
        CONTROL[:-1] + b"\xdd\xff\xff\xff\xff",
        LINK[:-1] + b"\x91" * 100_000,
        LINK + b"\x00",
        b"\x01\xdf\xff\xff\xff\xff",
        b"\x01\xc6\xff\xff\xff\xff",
        b"[" * 60_000,
        b'{"id":' * 10_000,
        b'{"id":"\\ud800"}',
        b'{"id":"\xff"}',
        pickle.dumps({"kind": "request"}),
    ]
)
small_maps = st.dictionaries(
    st.sampled_from(["kind", "node", "line", "first", "frames", "sender", "words", "attempt_id", "through"]) | text,
    st.none() | st.booleans() | signed | text | st.binary(max_size=9) | st.lists(signed, max_size=3) | st.floats(),
    max_size=6,
).map(lambda value: b"\x01" + msgspec.msgpack.encode(value))


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda raw: b"\x01" + raw) | small_maps | hostile)
@example(b"\x01" + msgspec.msgpack.encode({"kind": "echo", "sender": "a\udc80".encode("utf-8", "surrogatepass")}))
@settings(max_examples=400)
def test_any_bytes_are_a_word_or_undecodable_and_nothing_else(raw: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(UndecodableMessage):
            decode(raw)


@given(links | controls | requests | dead_letters | presences, st.data())
def test_a_word_with_flipped_bytes_is_a_word_or_undecodable(word: Any, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(word))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for decode in DECODERS:
        with contextlib.suppress(UndecodableMessage):
            decode(bytes(raw))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=5))
def test_an_error_never_quotes_what_was_read(secret: str) -> None:
    marked = f"s3cret {secret} s3cret"
    for word in (
        {"kind": marked},
        {"kind": "stop", "attempt_id": "att_1", "reason": marked},
        {"kind": "control", "sender": "gate", "words": marked},
        {"kind": "request", "endpoint": marked, "model": marked},
    ):
        for decode in DECODERS:
            with pytest.raises(UndecodableMessage) as caught:
                decode(b"\x01" + msgspec.msgpack.encode(word))
            assert "s3cret" not in caught.value.message
        with pytest.raises(UndecodableMessage) as caught:
            codec.decode_event(msgspec.json.encode(word | {"specversion": marked, "id": "1"}))
        assert "s3cret" not in caught.value.message
