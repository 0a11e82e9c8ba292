"""The bytes of every word, as files: what a node in another language is tested against.

A change that makes one of these tests fail changes the contract. If that is meant, write the files anew with
``python -m tests.golden`` and tell of it in ``docs/messages.md``.
"""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest

from wire import codec
from wire.backlog import BacklogReport, ModelBacklog
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
from wire.dead_letter import DeadLetter
from wire.errors import ErrorBody, UndecodableMessage
from wire.event import (
    PREFIX,
    AcceptedData,
    Event,
    EventType,
    GatewayData,
    GatewayEventType,
    NodeData,
    NodeEventType,
    PromptData,
    RequestData,
    RequestEventType,
    Status,
    Times,
    attempt_event_id,
    charge_id,
    request_event_id,
)
from wire.order import CancelRequest
from wire.piece import Alive, Content, Counted, Echo, Failed, Finished, Frame, LinkMessage, Settled, Started
from wire.presence import Presence, RollCall, RunningRequest
from wire.request import Origin, Request
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = Path(__file__).parent.parent / "golden"
REQUEST = "req_0123456789abcdef0123456789abcdef"
QUESTION = "qst_0123456789abcdef01234567"
ATTEMPT = "att_0123456789abcdef01234567"
GATEWAY = "gateway-host-0123456789abcdef"
NODE = "node-host-fedcba9876543210"
AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=12, completion_tokens=34, cached_tokens=5, reasoning_tokens=6)
ERROR = ErrorBody(
    code="upstream_refused",
    message="The provider of this model refused the request.",
    type="invalid_request_error",
    param="messages",
    http_status=400,
    retryable=True,
    retry_after_ms=1500,
)
TIMES = Times(
    received_ms=AT,
    published_ms=AT + 2,
    taken_ms=AT + 5,
    first_token_ms=AT + 105,
    last_token_ms=AT + 305,
    settled_ms=AT + 306,
)

TAGS = {"team": "search", "größe": "🦙"}
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}'
REQUESTS = {
    "request": Request(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="chat/completions",
        body=BODY,
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
    ),
    "request.full": Request(
        request_id=REQUEST,
        model="org/größe 🦙",
        endpoint="chat/completions",
        body=b"\x00\xff" + BODY,
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
        stream=True,
        usage_asked=True,
        key_id="team-a",
        user_agent="OpenAI/Python 2.0",
        n=2,
        max_tokens=4096,
    ),
    "request.origin": Request(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="chat/completions",
        body=BODY,
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
        origin=Origin(client_request_id="trace-1", via=[NODE]),
    ),
    "request.completions": Request(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="completions",
        body=b'{"model":"gpt-4o","prompt":["Once","Twice"],"stream":true}',
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
        stream=True,
    ),
    "request.traced": Request(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="chat/completions",
        body=BODY,
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    "request.tags": Request(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="chat/completions",
        body=BODY,
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
        images=2,
        tags=TAGS,
    ),
    "request.embeddings": Request(
        request_id=REQUEST,
        model="embedder",
        endpoint="embeddings",
        body=b'{"model":"embedder","input":[[1,2],[3]],"encoding_format":"base64"}',
        gateway=GATEWAY,
        received_ms=AT,
        deadline_ms=AT + 600_000,
    ),
}
DEAD_LETTERS = {
    "dead-letter": DeadLetter(
        request=REQUESTS["request.full"],
        reason="poison",
        message="This request brought down 3 nodes.",
        node=NODE,
        at_ms=AT + 1000,
    )
}

FRAMES: dict[str, Frame] = {
    "started": Started(attempt_id=ATTEMPT, request_id=REQUEST),
    "started.begun": Started(attempt_id=ATTEMPT, request_id=REQUEST, begun=True, continues=True, redeliveries=1),
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

PRESENCES = {
    "presence": Presence(
        node=NODE,
        name="node-1",
        model="static",
        type="static",
        version="0.1.0",
        state="ready",
        slots=128,
        sent_ms=AT,
        started_ms=AT - 60_000,
    ),
    "presence.full": Presence(
        node=NODE,
        name="node-1",
        model="org/größe 🦙",
        type="remote",
        version="0.1.0",
        state="rate_limited",
        slots=128,
        sent_ms=AT,
        started_ms=AT - 60_000,
        busy=7,
        parked=1,
        service_ms=1234,
        sentence="The provider limits this key until noon.",
        until_ms=AT + 60_000,
        since_ms=AT - 5_000,
        host="host-1",
        running=(RunningRequest(request_id=REQUEST, taken_ms=AT - 1_000),),
        endpoints=("chat/completions", "embeddings"),
        modalities=("text", "image"),
        context_length=128_000,
        continues=True,
        counts=True,
        provider="api.openai.com",
        credential="0123456789abcdef",
        requests_per_min=600,
        tokens_per_min=90_000,
        limited_until_ms=AT + 60_000,
    ),
}
ORDERS = {"order.cancel": CancelRequest(sender="management-0123456789abcdef", request_id=REQUEST)}
ROLL_CALLS = {"roll-call": RollCall(sender=GATEWAY)}
BACKLOGS = {
    "backlog": BacklogReport(
        gateway=GATEWAY,
        sent_ms=AT,
        models=(
            ModelBacklog(model="static", waiting=3, running=128, taken=4567, accepted=4600, oldest_ms=AT - 900),
            ModelBacklog(model="org/größe 🦙", taken=1),
        ),
    )
}


# Which event ends as what, and who tells it.
REQUEST_EVENTS: dict[RequestEventType, tuple[Status, str]] = {
    "request.billed": ("answered", "node"),
    "request.failed": ("refused", "node"),
    "request.cost": ("superseded", "node"),
    "request.cancelled": ("cancelled", "gateway"),
    "request.expired": ("expired", "gateway"),
    "request.dead": ("dead", "gateway"),
    "request.abandoned": ("abandoned", "node"),
    "request.replayed": ("answered", "operator"),
    "request.discarded": ("dead", "operator"),
}
SOURCES = {"node": f"/nodes/{NODE}", "gateway": f"/gateways/{GATEWAY}", "operator": "/operators"}


def _request_event_id(kind: RequestEventType, teller: str) -> str:
    if kind == "request.billed":
        return charge_id(REQUEST)
    if teller == "node":
        return attempt_event_id(kind, ATTEMPT)
    return request_event_id(kind, REQUEST) + (f"-{AT}" if teller == "operator" else "")


def _request_event(kind: RequestEventType) -> Event:
    status, teller = REQUEST_EVENTS[kind]
    by_node = teller == "node"
    failed = kind in ("request.failed", "request.dead")
    data = RequestData(
        request_id=REQUEST,
        endpoint="chat/completions",
        model="gpt-4o",
        status=status,
        stream=True,
        attempt_id=ATTEMPT if by_node else None,
        attempt=1,
        usage=USAGE if by_node else Usage(),
        times=TIMES if by_node else Times(received_ms=AT, settled_ms=AT + 306),
        durations=TIMES.durations(),
        finish_reason="stop" if kind == "request.billed" else None,
        error_code=ERROR.code if failed else None,
        message=ERROR.message if failed else None,
        key_id="team-a",
        user_agent="OpenAI/Python 2.0",
        node=NODE if by_node else None,
        node_type="remote" if by_node else None,
        host="host-1" if by_node else None,
        version="0.1.0",
        upstream_model="gpt-4o-2026",
        provider="api.openai.com",
        body_bytes=len(BODY),
        answer_bytes=321,
        n=1,
        max_tokens=4096,
    )
    return _event(kind, _request_event_id(kind, teller), SOURCES[teller], REQUEST, data)


def _node_event(kind: NodeEventType) -> Event:
    limited = kind == "node.rate_limited"
    data = NodeData(
        node=NODE,
        name="node-1",
        model="gpt-4o",
        node_type="remote",
        version="0.1.0",
        host="host-1",
        provider="api.openai.com",
        message="A sentence that says what happened and what to do.",
        error_code="rate_limit_exceeded" if limited else None,
        until_ms=AT + 60_000 if limited else None,
    )
    return _event(kind, f"{kind}-{NODE}-{AT}", f"/nodes/{NODE}", NODE, data)


def _gateway_event(kind: GatewayEventType) -> Event:
    data = GatewayData(
        gateway=GATEWAY, version="0.1.0", since_ms=AT, until_ms=AT + 60_000, refused={"401": 12, "503": 3}
    )
    return _event(kind, f"refusals-{GATEWAY}-{AT}", f"/gateways/{GATEWAY}", GATEWAY, data)


def _tagged_charge() -> Event:
    data = RequestData(
        request_id=REQUEST,
        endpoint="chat/completions",
        model="gpt-4o",
        status="answered",
        usage=USAGE,
        key_id="team-a",
        images=2,
        tags=TAGS,
    )
    return _event("request.billed", charge_id(REQUEST), f"/nodes/{NODE}", REQUEST, data)


def _accepted_event() -> Event:
    data = AcceptedData(gateway=GATEWAY, since_ms=AT, until_ms=AT + 1000, requests=[REQUEST, REQUEST[:-1] + "0"])
    return _event("gateway.accepted", f"accepted-{GATEWAY}-1", f"/gateways/{GATEWAY}", GATEWAY, data)


def _prompt_event() -> Event:
    data = PromptData(
        request_id=REQUEST,
        model="gpt-4o",
        endpoint="chat/completions",
        body=BODY,
        body_bytes=len(BODY),
        key_id="team-a",
    )
    return _event("request.prompt", f"prompt-{REQUEST}", f"/gateways/{GATEWAY}", REQUEST, data)


def _event(
    kind: EventType,
    event_id: str,
    source: str,
    subject: str,
    data: RequestData | NodeData | GatewayData | AcceptedData | PromptData,
) -> Event:
    return Event(
        id=event_id,
        source=source,
        type=PREFIX + kind,
        time="2025-10-09T08:53:20.306Z",
        subject=subject,
        data=codec.encode_event_data(data),
    )


EVENTS: dict[str, Event] = {
    **{f"event.{kind}": _request_event(kind) for kind in REQUEST_EVENTS},
    **{f"event.{kind}": _node_event(kind) for kind in get_args(NodeEventType)},
    **{f"event.{kind}": _gateway_event(kind) for kind in get_args(GatewayEventType)},
    "event.request.billed.tags": _tagged_charge(),
    "event.gateway.accepted": _accepted_event(),
    "event.request.prompt": _prompt_event(),
}


def files() -> dict[str, bytes]:
    """The content of every golden file by its name."""
    binary = {**REQUESTS, **DEAD_LETTERS, **LINKS, **CONTROLS, **PRESENCES, **ROLL_CALLS, **BACKLOGS, **ORDERS}
    return {
        **{f"{name}.bin": codec.encode(word) for name, word in binary.items()},
        **{f"{name}.json": codec.encode_event(event) for name, event in EVENTS.items()},
    }


Case = tuple[str, Any, "Callable[[bytes], Any]"]
CASES: list[Case] = [
    *((name, word, codec.decode_request) for name, word in REQUESTS.items()),
    *((name, word, codec.decode_dead_letter) for name, word in DEAD_LETTERS.items()),
    *((name, word, codec.decode_link) for name, word in LINKS.items()),
    *((name, word, codec.decode_control) for name, word in CONTROLS.items()),
    *((name, word, codec.decode_presence) for name, word in PRESENCES.items()),
    *((name, word, codec.decode_roll_call) for name, word in ROLL_CALLS.items()),
    *((name, word, codec.decode_order) for name, word in ORDERS.items()),
    *((name, word, codec.decode_backlog) for name, word in BACKLOGS.items()),
    *((name, word, codec.decode_event) for name, word in EVENTS.items()),
]
every_word = pytest.mark.parametrize(("name", "word", "decode"), CASES, ids=[name for name, _, _ in CASES])


def _stored(name: str) -> bytes:
    return (FILES / (f"{name}.json" if name in EVENTS else f"{name}.bin")).read_bytes()


def test_there_is_one_file_per_example_and_no_other() -> None:
    stored = {path.name for path in FILES.iterdir() if path.suffix in (".bin", ".json")}
    assert stored == set(files())


def test_every_word_that_travels_has_an_example() -> None:
    def kinds(union: Any) -> set[type]:
        return set(get_args(union))

    assert {type(word) for word in WORDS.values()} == kinds(Word)
    assert {type(frame) for frame in FRAMES.values()} == kinds(Frame)
    types = {kind for family in get_args(EventType) for kind in get_args(family) or (family,)}
    assert {event.type.removeprefix(PREFIX) for event in EVENTS.values()} == types


@every_word
def test_encoding_gives_exactly_the_stored_bytes(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    assert files()[f"{name}.json" if name in EVENTS else f"{name}.bin"] == _stored(name)


@every_word
def test_the_stored_bytes_give_the_word(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    assert decode(_stored(name)) == word


@pytest.mark.parametrize("name", FRAMES)
def test_the_frames_of_a_stored_message_are_the_frames(name: str) -> None:
    message = codec.decode_link(_stored(f"link.{name}"))
    assert isinstance(message, LinkMessage)
    assert [codec.decode_frame(raw) for raw in message.frames] == [FRAMES[name]]


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_a_stored_message_are_the_words(name: str) -> None:
    message = codec.decode_control(_stored(f"control.{name}"))
    assert isinstance(message, ControlMessage)
    assert [codec.decode_word(raw) for raw in message.words] == [WORDS[name]]


def test_a_word_that_is_not_known_does_not_cost_the_words_beside_it() -> None:
    stored = msgspec.msgpack.decode(_stored("control.several")[1:])
    stored["words"].insert(1, {"kind": "a-new-word", "attempt_id": ATTEMPT})
    stored["words"].insert(2, {"kind": "stop", "attempt_id": ATTEMPT, "reason": "a-new-reason"})
    message = codec.decode_control(b"\x01" + msgspec.msgpack.encode(stored))
    assert isinstance(message, ControlMessage)
    first, unknown, unknown_reason, last = message.words
    assert [codec.decode_word(first), codec.decode_word(last)] == [WORDS["acked"], WORDS["accepted"]]
    for raw in (unknown, unknown_reason):
        with pytest.raises(UndecodableMessage):
            codec.decode_word(raw)


@pytest.mark.parametrize("name", EVENTS)
def test_the_data_of_a_stored_event_is_read_by_its_type(name: str) -> None:
    event = codec.decode_event(_stored(name))
    data = _reader_of(event)(event.data)
    if isinstance(data, RequestData | PromptData):
        assert data.request_id == REQUEST
    elif isinstance(data, NodeData):
        assert data.node == NODE
    else:
        assert data.gateway == GATEWAY


def _reader_of(event: Event) -> Callable[[msgspec.Raw], Any]:
    kind = event.type.removeprefix(PREFIX)
    own = {"request.prompt": codec.decode_prompt_data, "gateway.accepted": codec.decode_accepted_data}
    families = {"request": codec.decode_request_data, "gateway": codec.decode_gateway_data}
    return own.get(kind) or families.get(kind.partition(".")[0], codec.decode_node_data)


def _with_unknown_field(name: str) -> bytes:
    """The stored message with a field of a newer version in every map of it that has a kind, and in an event's data."""
    if name in EVENTS:
        event = json.loads(_stored(name))
        event["traceparent"] = {"new": [1]}
        event["data"]["colour"] = "blue"
        return json.dumps(event).encode()

    def widen(value: Any) -> Any:
        if isinstance(value, list):
            return [widen(item) for item in value]
        if isinstance(value, dict):
            widened = {key: item if key == "tags" else widen(item) for key, item in value.items()}
            return {"a_new_field": {"deep": [1, None]}} | widened
        return value

    return b"\x01" + msgspec.msgpack.encode(widen(msgspec.msgpack.decode(_stored(name)[1:])))


@every_word
def test_an_unknown_field_is_passed_over(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    widened = decode(_with_unknown_field(name))
    if isinstance(word, LinkMessage):
        assert [codec.decode_frame(raw) for raw in widened.frames] == [codec.decode_frame(raw) for raw in word.frames]
    elif isinstance(word, ControlMessage):
        assert [codec.decode_word(raw) for raw in widened.words] == [codec.decode_word(raw) for raw in word.words]
    elif isinstance(word, Event):
        read = _reader_of(word)
        assert read(widened.data) == read(word.data)
    else:
        assert widened == word


@every_word
def test_a_message_cut_anywhere_is_undecodable(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    stored = _stored(name)
    for length in range(len(stored)):
        with pytest.raises(UndecodableMessage):
            decode(stored[:length])


@every_word
def test_a_message_with_something_behind_it_is_undecodable(
    name: str, word: Any, decode: Callable[[bytes], Any]
) -> None:
    with pytest.raises(UndecodableMessage):
        decode(_stored(name) + b"\x00")


@pytest.mark.parametrize(("name", "word", "decode"), [case for case in CASES if case[0] not in EVENTS])
def test_another_version_is_undecodable(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    for version in (0, 2, 0x7B, 0x80, 0xFF):
        with pytest.raises(UndecodableMessage):
            decode(bytes([version]) + _stored(name)[1:])


@every_word
def test_pickles_and_noise_are_undecodable(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    noise = random.Random(name)
    fakes = [b"", pickle.dumps({"kind": "request"}), pickle.dumps(REQUEST, protocol=0), b"null", b"\x01\xc0", b"{}"]
    fakes += [noise.randbytes(noise.randint(1, 200)) for _ in range(50)]
    fakes += [b"\x01" + noise.randbytes(noise.randint(1, 200)) for _ in range(50)]
    for fake in fakes:
        with pytest.raises(UndecodableMessage):
            decode(fake)


@every_word
def test_a_word_is_not_taken_for_another_one(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    for other, _, _ in CASES:
        if other.split(".")[0] == name.split(".")[0] or "echo" in (name, other):
            continue
        with pytest.raises(UndecodableMessage):
            decode(_stored(other))


def test_an_echo_is_understood_on_a_link_and_on_a_control_topic() -> None:
    assert codec.decode_link(_stored("echo")) == codec.decode_control(_stored("echo")) == LINKS["echo"]


def test_a_charge_at_its_limit_is_read_and_one_byte_more_is_not() -> None:
    stored = _stored("event.request.billed")
    assert codec.decode_event(stored.ljust(64 * 1024)).id == charge_id(REQUEST)
    with pytest.raises(UndecodableMessage):
        codec.decode_event(stored.ljust(64 * 1024 + 1))
