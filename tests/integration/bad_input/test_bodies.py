"""Bodies that are no JSON object, too large, too deep, packed, or of another type."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.bad_input.rows import (
    BODY_BYTES_MAX,
    BODY_WAIT_S,
    CHUNKED,
    MISSING,
    Row,
    bad,
    deep,
    good,
    with_field,
    with_headers,
)
from tests.raw_http import JSON, exchange, get, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


def not_json(claim: str, body: bytes) -> Row:
    return bad(claim, body, code="invalid_json")


def deep_tool_calls(levels: int) -> bytes:
    body = json.dumps(good(messages=[{"role": "assistant", "tool_calls": "@"}])).encode()
    return body.replace(b'"@"', deep("[", "]", levels).encode())


CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
BOMB = gzip.compress(b" " * 50_000_000)
MEDIA = "unsupported_media_type"

ROWS = [
    not_json("an_empty_body_is_refused", b""),
    not_json("malformed_json_is_refused", b'{"model": "CANARY", "messages": ['),
    not_json("trailing_data_is_refused", json.dumps(good()).encode() + b" CANARY"),
    not_json("nan_is_refused", with_field('"temperature": NaN')),
    not_json("infinity_in_an_unknown_field_is_refused", with_field('"mine": Infinity')),
    not_json("invalid_utf8_is_refused", json.dumps(good()).encode().replace(b"CANARY", b"CANARY\xff")),
    not_json("invalid_utf8_in_an_unknown_field_is_refused", with_field('"mine": "CANARY?"').replace(b"?", b"\xc3")),
    not_json("utf16_is_refused", json.dumps(good()).encode("utf-16")),
    not_json("a_lone_surrogate_is_refused", with_field('"user": "CANARY \\ud800"')),
    not_json("nesting_300_deep_is_refused", with_field(f'"mine": {deep("[", "]", 300)}')),
    not_json("nesting_10000_deep_is_refused", with_field(f'"mine": {deep("[", "]", 10_000)}')),
    not_json("nesting_a_million_deep_is_refused", with_field(f'"mine": {deep("[", "]", 1_000_000)}')),
    not_json("nesting_10000_deep_in_tool_calls_is_refused", deep_tool_calls(10_000)),
    bad("a_body_that_is_a_string_is_refused", b'"CANARY"'),
    bad("a_body_that_is_a_list_is_refused", b'["CANARY"]'),
    bad("a_body_that_is_a_number_is_refused", b"1"),
    bad("a_body_that_is_null_is_refused", b"null"),
    bad(
        "as_many_keys_as_fit_are_refused",
        b"{" + b",".join(b'"%d":1' % i for i in range(350_000)) + b"}",
        "messages",
        MISSING,
    ),
    Row(
        "a_million_keys_are_refused",
        post(b"{" + b",".join(b'"%d":1' % i for i in range(1_000_000)) + b"}"),
        413,
        "request_too_large",
    ),
    Row("a_wrong_content_type_is_refused", with_headers("content-type: text/plain", JSON[1]), 415, MEDIA),
    Row("a_form_is_refused", with_headers("content-type: multipart/form-data", JSON[1]), 415, MEDIA),
    Row("no_content_type_is_refused", with_headers(JSON[1]), 415, MEDIA),
    Row(
        "a_gzip_bomb_is_refused_before_it_unfolds",
        post(BOMB, *JSON, "content-encoding: gzip", f"content-length: {len(BOMB)}"),
        415,
        MEDIA,
    ),
    Row(
        "a_declared_length_over_the_limit_is_refused_before_the_body_comes",
        post(b"", *JSON, f"content-length: {BODY_BYTES_MAX + 1}"),
        413,
        "request_too_large",
    ),
    Row(
        "a_declared_length_of_exabytes_is_refused",
        post(b"", *JSON, "content-length: 9999999999999999999"),
        413,
        "request_too_large",
    ),
    Row(
        "a_chunked_body_over_the_limit_is_refused_before_it_ends",
        post(CHUNK * 65, *CHUNKED),
        413,
        "request_too_large",
    ),
    Row(
        "a_body_that_never_comes_is_given_up",
        post(b"", *JSON, "content-length: 10"),
        408,
        "request_timeout",
        within_s=BODY_WAIT_S + 1.0,
    ),
    Row(
        "a_chunked_body_that_stops_is_given_up",
        post(b'4\r\n{"mo\r\n', *CHUNKED),
        408,
        "request_timeout",
        within_s=BODY_WAIT_S + 1.0,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_what_is_no_body_is_refused(place: Place, row: Row) -> None:
    await place.refuses(row)


async def test_refused_requests_are_counted(place: Place) -> None:
    async def refused() -> float:
        metrics = (await exchange(place.port, get("/metrics"))).body.decode()
        found = re.search(r'^gateway_refused_requests_total\{status="400"\} (\S+)$', metrics, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = await refused()
    await exchange(place.port, post(b"{"))
    assert await refused() == before + 1


async def test_memory_stays_flat_under_bodies_of_many_small_values(place: Place) -> None:
    fill = b",".join([b"{}"] * 1_300_000)
    bodies = [
        with_field('"tools": [{"type": "f", "function": {"name": "f", "parameters": {"a": [@]}}}]').replace(b"@", fill),
        b'{"messages": [{"role": "assistant", "tool_calls": [' + fill + b"]}]}",
        b"{" + b",".join(b'"%d":{}' % i for i in range(330_000)) + b"}",
    ]
    process = psutil.Process()
    for body in bodies:
        assert (await exchange(place.port, post(body))).status == 400
    before = process.memory_info().rss
    for _ in range(8):
        for body in bodies:
            assert (await exchange(place.port, post(body))).status == 400
    assert process.memory_info().rss - before < 64 * 1024 * 1024
