"""Pulsar's frames, cut anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.pulsar import PulsarLimits
from broker.pulsar.channel import Channel
from broker.pulsar.frames import Command, Fields, frame, message_frame, number, read_varint, text, varint

NUMBERS = st.integers(0, 2**64 - 1)


@given(NUMBERS, st.binary(max_size=5))
def test_a_number_is_read_as_it_was_written(value: int, rest: bytes) -> None:
    assert read_varint(varint(value) + rest, 0) == (value, len(varint(value)))


@given(st.integers(10, 200_000))
def test_a_number_that_does_not_end_is_not_read_to_its_end(size: int) -> None:
    with pytest.raises(IndexError):
        read_varint(b"\xff" * size + b"\x01", 0)


@given(st.dictionaries(st.integers(1, 5000), NUMBERS | st.binary(max_size=300)))
def test_fields_are_read_as_they_were_written(fields: dict[int, int | bytes]) -> None:
    written = b"".join(number(key, v) if isinstance(v, int) else text(key, v) for key, v in fields.items())
    assert dict(Fields(written)) == fields
    inner = Fields(text(6, written)).inner(6)
    assert dict(inner) == fields


@given(st.lists(st.binary(max_size=400), max_size=12), st.data())
def test_messages_are_taken_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(
        message_frame(
            frame(Command.MESSAGE, number(1, 5) + text(2, number(1, n) + number(2, n)))[8:], number(2, n), payload
        )
        + frame(Command.PING, b"")
        for n, payload in enumerate(payloads)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    heard, written = asyncio.run(_heard(stream, cuts))
    assert heard == payloads
    assert written == [frame(Command.PONG, b"")] * len(payloads)


async def _heard(stream: bytes, cuts: list[int]) -> tuple[list[bytes], list[bytes]]:
    channel = Channel(PulsarLimits(), lambda: None, proxied_to=None, gathers=False)
    transport, reader = _Transport(), _Reader()
    channel.connection_made(transport)  # type: ignore[arg-type]
    transport.written.clear()
    channel._consumers[5] = reader  # type: ignore[assignment]
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        channel.data_received(stream[begin:end])
    return reader.heard, transport.written


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, *_: Any) -> None:
        pass


class _Reader:
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def take(self, data: bytes, _: int, end: int, stop: int) -> None:
        begin = end + 4 + int.from_bytes(data[end : end + 4], "big")
        self.heard.append(data[begin:stop])
