"""What is no HTTP."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.integration.bad_input.rows import CANARY, CHUNKED, with_headers
from tests.raw_http import JSON, Connection, get, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

NO_HTTP = {
    "a_bare_line_break_in_a_header": with_headers(*JSON, "x-mine: a\n b"),
    "a_header_split_by_a_carriage_return": with_headers(*JSON, "x-mine: a\rx-other: CANARY"),
    "a_nul_in_a_header": with_headers(*JSON, "x-mine: a\0b"),
    "a_space_before_the_colon": with_headers(*JSON, "x-mine : a"),
    "two_lengths": with_headers(*JSON, "content-length: 5"),
    "a_length_beside_chunks": post(b"0\r\n\r\n", *CHUNKED, "content-length: 5"),
    "a_negative_length": post(b"", *JSON, "content-length: -1"),
    "a_length_that_is_no_number": post(b"", *JSON, "content-length: CANARY"),
    "a_length_above_64_bits": post(b"", *JSON, "content-length: 99999999999999999999999"),
    "a_chunk_size_that_is_no_number": post(b"zz\r\n", *CHUNKED),
    "no_http_at_all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03CANARY\r\n\r\n",
    "an_unknown_method": get("/v1/models", method="CANARY"),
    "a_path_that_is_no_ascii": get("/v1/models/\xff"),
    "a_path_of_100_kb": get("/v1/models/" + "x" * 100_000),
}


@pytest.mark.parametrize("request_", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_no_http_is_refused_by_the_server_and_its_connection_closed(
    place: Place, request_: bytes
) -> None:
    requests = place.watch.requests
    async with asyncio.timeout(5), Connection(place.port) as connection:
        connection.send(request_)
        answer = await connection.answer()
        assert answer.status in (400, 431)
        assert answer.error["type"] == "invalid_request_error"
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert CANARY not in str(answer)
        assert await connection.closed()
    assert place.watch.requests == requests
    await place.serves()
