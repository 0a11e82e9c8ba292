"""What is no whole word of this version is undecodable, and nothing else is raised."""

from __future__ import annotations

import pickle
import random
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.golden.cases import CASES, every_word
from tests.golden.events import EVENTS
from tests.golden.files import bytes_of
from tests.golden.sample import REQUEST
from wire import codec
from wire.control import WORDS_MAX, AreYouAlive, ControlMessage
from wire.errors import UndecodableMessage
from wire.event import charge_id
from wire.link import MESSAGE_BYTES_MAX
from wire.piece import FRAMES_MAX, Alive, LinkMessage
from wire.presence import PRESENCE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable


@every_word
def test_a_message_cut_anywhere_is_undecodable(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    stored = bytes_of(name)
    for length in range(len(stored)):
        with pytest.raises(UndecodableMessage):
            decode(stored[:length])


@every_word
def test_a_message_with_something_behind_it_is_undecodable(
    name: str, word: Any, decode: Callable[[bytes], Any]
) -> None:
    with pytest.raises(UndecodableMessage):
        decode(bytes_of(name) + b"\x00")


@pytest.mark.parametrize(("name", "word", "decode"), [case for case in CASES if case[0] not in EVENTS])
def test_another_version_is_undecodable(name: str, word: Any, decode: Callable[[bytes], Any]) -> None:
    for version in (0, 2, 0x7B, 0x80, 0xFF):
        with pytest.raises(UndecodableMessage):
            decode(bytes([version]) + bytes_of(name)[1:])


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
            decode(bytes_of(other))


def test_a_charge_at_its_limit_is_read_and_one_byte_more_is_not() -> None:
    stored = bytes_of("event.request.billed")
    assert codec.decode_event(stored.ljust(64 * 1024)).id == charge_id(REQUEST)
    with pytest.raises(UndecodableMessage):
        codec.decode_event(stored.ljust(64 * 1024 + 1))


def test_a_heartbeat_longer_than_any_node_has_to_say_is_undecodable() -> None:
    said = {"node": "node-a", "name": "a", "model": "m", "type": "static", "version": "1", "state": "ready"}
    for chars, is_read in ((PRESENCE_BYTES_MAX - 200, True), (PRESENCE_BYTES_MAX, False)):
        told = {**said, "kind": "presence", "slots": 1, "sent_ms": 1, "started_ms": 1, "sentence": "x" * chars}
        heartbeat = b"\x01" + msgspec.msgpack.encode(told)
        for decode in (codec.decode_presence, codec.decode_credential):
            with nullcontext() if is_read else pytest.raises(UndecodableMessage):
                decode(heartbeat)


def test_what_has_more_parts_than_a_message_has_room_for_is_undecodable() -> None:
    """Read one by one, and told one by one, they would keep a reader busy for as long as nobody may be silent."""

    def control(count: int) -> bytes:
        return codec.encode(ControlMessage(sender="gateway-1", words=[msgspec.Raw(b"\xc0")] * count))

    def link(count: int) -> bytes:
        return codec.encode(LinkMessage(node="node-1", line=1, first=1, frames=[msgspec.Raw(b"\xc0")] * count))

    codec.decode_control(control(WORDS_MAX))
    codec.decode_link(link(FRAMES_MAX))
    with pytest.raises(UndecodableMessage):
        codec.decode_control(control(WORDS_MAX + 1))
    with pytest.raises(UndecodableMessage):
        codec.decode_link(link(FRAMES_MAX + 1))
    assert len(codec.encode_frame(Alive(attempt_id="att1", holding=True))) * FRAMES_MAX > MESSAGE_BYTES_MAX
    assert memoryview(codec.encode_word(AreYouAlive(attempt_id="att1"))).nbytes * WORDS_MAX > MESSAGE_BYTES_MAX
