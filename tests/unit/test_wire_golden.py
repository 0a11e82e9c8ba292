"""The bytes of every word, as files: what a node in another language is tested against.

A change that makes one of these tests fail changes the contract. If that is meant, write the files anew with
``python -m tests.golden`` and tell of it in ``docs/messages.md``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest

from tests.golden.cases import every_word
from tests.golden.events import EVENTS
from tests.golden.files import FILES, bytes_of, files
from tests.golden.lines import FRAMES, LINKS, WORDS
from tests.golden.sample import ATTEMPT, GATEWAY, NODE, REQUEST
from wire import codec
from wire.control import ControlMessage, Word
from wire.errors import UndecodableMessage
from wire.event import PREFIX, Event, EventType, NodeData, PromptData, RequestData
from wire.piece import Frame, LinkMessage

if TYPE_CHECKING:
    from collections.abc import Callable


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
    assert files()[f"{name}.json" if name in EVENTS else f"{name}.bin"] == bytes_of(name)


@every_word
def test_the_stored_bytes_give_the_word(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    assert decode(bytes_of(name)) == word


@pytest.mark.parametrize("name", FRAMES)
def test_the_frames_of_a_stored_message_are_the_frames(name: str) -> None:
    message = codec.decode_link(bytes_of(f"link.{name}"))
    assert isinstance(message, LinkMessage)
    assert [codec.decode_frame(raw) for raw in message.frames] == [FRAMES[name]]


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_a_stored_message_are_the_words(name: str) -> None:
    message = codec.decode_control(bytes_of(f"control.{name}"))
    assert isinstance(message, ControlMessage)
    assert [codec.decode_word(raw) for raw in message.words] == [WORDS[name]]


def test_a_word_that_is_not_known_does_not_cost_the_words_beside_it() -> None:
    stored = msgspec.msgpack.decode(bytes_of("control.several")[1:])
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
    event = codec.decode_event(bytes_of(name))
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
        event = json.loads(bytes_of(name))
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

    return b"\x01" + msgspec.msgpack.encode(widen(msgspec.msgpack.decode(bytes_of(name)[1:])))


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


def test_an_echo_is_understood_on_a_link_and_on_a_control_topic() -> None:
    assert codec.decode_link(bytes_of("echo")) == codec.decode_control(bytes_of("echo")) == LINKS["echo"]
