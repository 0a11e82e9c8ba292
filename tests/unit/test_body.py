"""Which bodies are read, how far, and what becomes of those that never come to their end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import pytest

from gateway.http.body import ClientGone, check_headers, read_body
from process.timers import Timers
from wire.errors import BodyTooLarge, RequestTooSlow, UnsupportedMediaType

if TYPE_CHECKING:
    from starlette.types import Message, Receive

JSON = {b"content-type": b"application/json"}


def came(*parts: bytes, whole: bool = True) -> Receive:
    """A body in parts, after which its client leaves unless it is whole."""
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if whole:
        messages[-1]["more_body"] = False
    messages.append({"type": "http.disconnect"})
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return receive


async def read(receive: Receive, headers: dict[bytes, bytes] = JSON, *, wait_s: float = 60.0) -> bytes:
    return await read_body(receive, headers, Timers(asyncio.get_running_loop()), bytes_max=10, wait_s=wait_s)


@pytest.mark.parametrize(
    "media",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json ",
        b"application/json; charset=utf-8",
        b"application/json ;a=;b",
        b"application/problem+json",
    ],
)
def test_json_is_taken_however_its_type_is_written(media: bytes) -> None:
    check_headers({b"content-type": media}, 10)


@pytest.mark.parametrize("media", [b"", b"text/plain", b"application/jsonl", b"text/plain; a=application/json"])
def test_what_is_not_said_to_be_json_is_refused(media: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        check_headers({b"content-type": media}, 10)
    with pytest.raises(UnsupportedMediaType):
        check_headers({}, 10)


def test_a_body_that_is_compressed_is_refused() -> None:
    check_headers({**JSON, b"content-encoding": b" Identity "}, 10)
    with pytest.raises(UnsupportedMediaType, match="uncompressed"):
        check_headers({**JSON, b"content-encoding": b"gzip"}, 10)


@pytest.mark.parametrize("length", [b"10", b"0", b"0 ", b"10 ", b"10\t", b"0" * 5000 + b"10", b"0" * 5000])
def test_a_length_is_read_as_the_parser_of_http_does_with_blanks_behind_and_zeros_before(length: bytes) -> None:
    check_headers({**JSON, b"content-length": length}, 10)


@pytest.mark.parametrize("length", [b"11", b"11 ", b"18446744073709551615", b"0" * 5000 + b"11"])
def test_a_body_that_is_said_to_be_too_large_is_not_read(length: bytes) -> None:
    with pytest.raises(BodyTooLarge, match="larger than 10 bytes"):
        check_headers({**JSON, b"content-length": length}, 10)


async def test_a_body_is_all_its_parts() -> None:
    assert await read(came(b'{"a":1}')) == b'{"a":1}'
    assert await read(came(b'{"a"', b"", b":1}")) == b'{"a":1}'
    assert await read(came(b"")) == b""


async def test_a_body_is_as_large_as_it_may_be_and_no_larger() -> None:
    assert await read(came(b"12345", b"67890")) == b"1234567890"
    with pytest.raises(BodyTooLarge):
        await read(came(b"12345", b"67890", b"1", whole=False))


async def test_what_a_client_has_sent_that_leaves_in_the_middle_is_no_request() -> None:
    with pytest.raises(ClientGone):
        await read(came(b'{"a":1}', whole=False))


async def test_a_body_that_does_not_come_is_waited_for_no_longer() -> None:
    async def receive() -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    with pytest.raises(RequestTooSlow):
        await read(receive, wait_s=0.01)
