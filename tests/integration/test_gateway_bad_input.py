"""What a client may do wrong, row by row: it is told so in OpenAI's shape, nothing is published, the others go on.

Every row runs over the memory broker and over a real Pulsar, against one gateway and one node.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import pytest_asyncio

from broker.memory import MemoryBroker, MemoryServer
from broker.pulsar import PulsarBroker
from tests.in_process import InProcessFleet
from tests.raw_http import JSON, KEY, Connection, exchange, get, post
from tests.waiting import until
from tests.watched_broker import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUN = uuid.uuid4().hex[:8]
MODEL = f"model-{RUN}"
CANARY = "CANARY"
"""Stands in everything that a client sends, and must come back in nothing."""
BODY_BYTES_MAX = 4 * 1024 * 1024
BODY_WAIT_S = 1.0
KEYS = {"API_KEYS": f"tester:{KEY}"}
CHAT = "/v1/chat/completions"


def good(**extra: Any) -> dict[str, Any]:
    """A body without fault."""
    return {"model": MODEL, "messages": [{"role": "user", "content": CANARY}], **extra}


def with_message(**message: Any) -> dict[str, Any]:
    return good(messages=[{"role": "user", "content": "hi"}, message])


def with_field(text: str) -> bytes:
    """A body with a field as written, for what no Python value stands for."""
    return json.dumps(good()).encode()[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


def with_schema(schema: Any, *, tools: int = 1) -> dict[str, Any]:
    function = {"name": "f", "parameters": schema}
    return good(tools=[{"type": "function", "function": function}] * tools)


def with_part(**part: Any) -> dict[str, Any]:
    return with_message(role="user", content=[{"type": "text", "text": CANARY}, part])


def image(url: str) -> dict[str, Any]:
    return with_part(type="image_url", image_url={"url": url})


def with_headers(*headers: str, path: str = CHAT) -> bytes:
    data = json.dumps(good()).encode()
    return post(data, *headers, f"content-length: {len(data)}", path=path)


def deep(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


def deep_tool_calls(levels: int) -> bytes:
    body = json.dumps(good(messages=[{"role": "assistant", "tool_calls": "@"}])).encode()
    return body.replace(b'"@"', deep("[", "]", levels).encode())


@dataclass(frozen=True)
class Row:
    """One way to be wrong, and what it gets."""

    claim: str
    request: bytes
    status: int = 400
    code: str = "invalid_value"
    param: str | None = None
    within_s: float = 1.0


def bad(claim: str, body: bytes | dict[str, Any], param: str | None = None, code: str = "invalid_value") -> Row:
    return Row(claim, post(body), param=param, code=code)


def bad_field(name: str, *values: Any) -> list[Row]:
    return [bad(f"{name}_of_{json.dumps(value)[:24]}_is_refused", good(**{name: value}), name) for value in values]


def stranger(claim: str, *headers: str, path: str = CHAT) -> Row:
    request = with_headers("content-type: application/json", *headers, path=path)
    return Row(claim, request, 401, "invalid_api_key")


def not_json(claim: str, body: bytes) -> Row:
    return bad(claim, body, code="invalid_json")


MISSING = "missing_required_parameter"
CHUNKED = (*JSON, "transfer-encoding: chunked")
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
BOMB = gzip.compress(b" " * 50_000_000)
REF_CHAIN = {f"{i:x}": {"$ref": f"#/$defs/{i + 1:x}"} for i in range(5000)} | {f"{5000:x}": {}}

MESSAGE = "messages[1]"
PART = f"{MESSAGE}.content[1]"
PARAMETERS = "tools[0].function.parameters"
MEDIA = "unsupported_media_type"
REFUSED = "unsupported_parameter"

ROWS = [
    stranger("no_key_is_refused"),
    stranger("an_empty_authorization_is_refused", "authorization:"),
    stranger("an_empty_bearer_is_refused", "authorization: Bearer "),
    stranger("basic_is_refused", f"authorization: Basic {KEY}"),
    stranger("a_wrong_key_is_refused_without_echo", f"authorization: Bearer {CANARY}-0123456789"),
    stranger("a_key_cut_short_is_refused", f"authorization: Bearer {KEY[:-1]}"),
    stranger("a_key_of_10_kb_is_refused", f"authorization: Bearer {KEY * 400}"),
    stranger("a_key_that_is_no_ascii_is_refused", "authorization: Bearer \xe9\xff\x80abcdefgh"),
    stranger("a_key_in_the_query_is_refused", path=f"{CHAT}?api_key={KEY}"),
    stranger("a_key_in_another_header_is_refused", f"x-api-key: {KEY}", f"api-key: {KEY}"),
    Row("two_authorizations_are_refused", with_headers(*JSON, f"authorization: Bearer {KEY}")),
    not_json("an_empty_body_is_refused", b""),
    not_json("malformed_json_is_refused", b'{"model": "CANARY", "messages": ['),
    not_json("trailing_data_is_refused", json.dumps(good()).encode() + b" CANARY"),
    not_json("nan_is_refused", with_field('"temperature": NaN')),
    not_json("infinity_in_an_unknown_field_is_refused", with_field('"mine": Infinity')),
    not_json("invalid_utf8_is_refused", json.dumps(good()).encode().replace(b"CANARY", b"CANARY\xff")),
    not_json("invalid_utf8_in_an_unknown_field_is_refused", with_field('"mine": "CANARY?"').replace(b"?", b"\xc3")),
    not_json("utf16_is_refused", json.dumps(good()).encode("utf-16")),
    not_json("a_lone_surrogate_is_refused", with_field('"user": "CANARY \\ud800"')),
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
    Row(
        "a_million_keys_in_a_schema_are_refused",
        post(
            with_field(
                '"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {@}}}'
            ).replace(b"@", b",".join(b'"%d":1' % i for i in range(390_000)))
        ),
        param="response_format.json_schema.schema",
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
    Row(
        "a_deadline_that_is_no_number_is_refused",
        with_headers(*JSON, "x-request-timeout-ms: CANARY"),
        param="x-request-timeout-ms",
    ),
    Row(
        "a_deadline_of_0_is_refused",
        with_headers(*JSON, "x-request-timeout-ms: 0"),
        param="x-request-timeout-ms",
    ),
    bad("messages_missing_is_refused", {"model": MODEL}, "messages", MISSING),
    *bad_field("messages", None, [], "CANARY", {}, 1),
    bad("a_message_that_is_a_number_is_refused", good(messages=[1]), "messages[0]"),
    bad("a_message_that_is_null_is_refused", good(messages=[None]), "messages[0]"),
    bad("too_many_messages_are_refused", good(messages=[{"role": "user", "content": "x"}] * 10_001), "messages"),
    bad("an_unknown_role_is_refused", with_message(role=CANARY * 1000, content="x"), f"{MESSAGE}.role"),
    bad("a_role_that_is_a_list_is_refused", with_message(role=["user"], content="x"), f"{MESSAGE}.role"),
    bad("a_message_without_role_is_refused", with_message(content="x"), f"{MESSAGE}.role", MISSING),
    bad("a_message_without_content_is_refused", with_message(role="user"), f"{MESSAGE}.content", MISSING),
    bad("content_that_is_a_number_is_refused", with_message(role="user", content=5), f"{MESSAGE}.content"),
    bad("a_part_without_type_is_refused", with_part(text="x"), f"{PART}.type", MISSING),
    bad(
        "a_tool_message_without_id_is_refused",
        with_message(role="tool", content="x"),
        f"{MESSAGE}.tool_call_id",
        MISSING,
    ),
    bad(
        "tool_calls_that_are_no_list_are_refused",
        with_message(role="assistant", tool_calls="x"),
        f"{MESSAGE}.tool_calls",
    ),
    bad("model_missing_is_refused", {"messages": good()["messages"]}, "model", MISSING),
    *bad_field("model", None, 5, "", ["a"], "x" * 10_240),
    *(
        Row(f"model_{json.dumps(name)}_is_unknown", post(good(model=name)), 404, "model_not_found", "model")
        for name in (
            "unknown",
            "../x",
            "persistent://a/b/c",
            ".*",
            "a/b",
            "%2e%2e",
            "a\u0000b",
            "\r\nx: y",
            "\u202eabc",
        )
    ),
    *bad_field("n", 0, -1, 129, 1.5, True, "1", 10**30),
    *bad_field("max_tokens", 0, -1, 2**31, True, "5", 10**400),
    *bad_field("max_completion_tokens", 0, -1, 2**63, False, []),
    *bad_field("temperature", -0.1, 2.1, True, "0", 1e300),
    bad("temperature_of_1e999_is_refused", with_field('"temperature": 1e999'), "temperature"),
    *bad_field("top_p", -0.1, 1.1, True, "1"),
    *bad_field("top_k", -2, 2**31, True, 1.5),
    *bad_field("presence_penalty", -2.1, 2.1, True, {}),
    *bad_field("frequency_penalty", -2.1, 2.1, True, "0"),
    *bad_field("repetition_penalty", 0, 11, True),
    *bad_field("seed", 2**63, -(2**63) - 1, True, 1.5, "1"),
    *bad_field("logprobs", 1, "true", []),
    *bad_field("top_logprobs", -1, 21, True, 5),
    *bad_field("stop", ["a"] * 17, 5, True, {}),
    bad("a_stop_that_is_a_number_is_refused", good(stop=["a", 1]), "stop[1]"),
    *bad_field("logit_bias", [], {CANARY: 1}, {"5": 101}, {"5": True}, {str(i): 1 for i in range(1025)}),
    *bad_field("stream", 1, "true"),
    bad("stream_options_without_stream_is_refused", good(stream_options={"include_usage": True}), "stream_options"),
    *bad_field("user", "x" * 513, 5),
    *(
        bad(f"{name}_is_refused", good(**{name: CANARY}), name, REFUSED)
        for name in ("api_base", "base_url", "api_key", "extra_headers", "chat_template", "trust_remote_code")
    ),
    bad("a_refused_field_is_found_in_disguise", with_field('"api\\u005fbase": "CANARY"'), "api_base", REFUSED),
    bad("chat_template_kwargs_may_not_nest", good(chat_template_kwargs={"a": {}}), "chat_template_kwargs"),
    *bad_field("tools", [{"type": "function", "function": {"name": "f"}}] * 10_000, {}, "x"),
    *(
        bad(claim, with_schema(schema), PARAMETERS)
        for claim, schema in {
            "a_schema_1000_deep_is_refused": json.loads(deep('{"a":', "}", 900)),
            "a_schema_that_is_a_list_is_refused": [],
            "a_schema_of_1_mb_is_refused": {"description": "x" * 1_000_000},
            "a_bad_pattern_is_refused": {"pattern": "(CANARY"},
            "a_pattern_that_counts_through_unicode_is_refused": {"pattern": "(?i)[\u0000-\U0010fffe]"},
            "a_long_pattern_is_refused": {"pattern": "a" * 1001},
            "a_ref_to_itself_is_refused": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
            "a_ref_in_a_circle_is_refused": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "a_ref_to_nowhere_is_refused": {"$ref": "#/$defs/CANARY"},
            "a_ref_to_elsewhere_is_refused": {"$ref": "http://127.0.0.1/CANARY"},
            "a_long_chain_of_refs_ends_in_time": {"bad": {"$ref": "#/nowhere"}, "$defs": REF_CHAIN},
        }.items()
    ),
    bad(
        "schemas_with_too_many_parts_are_refused",
        with_schema({"enum": [1] * 20_000}, tools=3),
        "tools[2].function.parameters",
    ),
    bad(
        "many_slow_patterns_end_in_time",
        with_schema([{"pattern": "[^\u0000-\U0010fffe]" * 200}], tools=100),
        PARAMETERS,
    ),
    *bad_field("response_format", "json_object", []),
    bad("an_unknown_response_format_is_refused", good(response_format={"type": CANARY}), "response_format.type"),
    bad(
        "json_schema_without_schema_is_refused",
        good(response_format={"type": "json_schema", "json_schema": {"name": "n"}}),
        "response_format.json_schema",
        MISSING,
    ),
    bad(
        "json_schema_that_is_null_is_refused",
        good(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": None}}),
        "response_format.json_schema.schema",
    ),
    *(
        bad(f"an_image_at_{url[:40]}_is_refused", image(url), f"{PART}.image_url")
        for url in (
            "http://127.0.0.1/CANARY",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://[::1]/",
            "http://0/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/",
            "http://2130706433/",
            "http://0x7f00000a/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "ftp://example.com/",
            "//example.com/x",
            "relative.png",
            "",
            "http://127.0.0.1\\@example.com/",
            "http://%6cocalhost/",
            "http://metadata.google.internal/",
            "http://\u24dbocalhost/",
            "http://127\u30020\u30020\u30021/",
            "http://a:99999/",
            "http://[64:ff9b::7f00:1]/",
        )
    ),
    bad("an_image_url_that_is_a_string_is_refused", with_part(type="image_url", image_url="x"), f"{PART}.image_url"),
    bad(
        "a_video_inside_is_refused",
        with_part(type="video_url", video_url={"url": "http://[fe80::1]/"}),
        f"{PART}.video_url",
    ),
]


class Place:
    """A gateway and a node on one broker, and what they published."""

    def __init__(self, fleet: InProcessFleet, watch: Watch, port: int) -> None:
        self.fleet, self.watch, self.port = fleet, watch, port

    async def serves(self) -> None:
        """A good request gets its answer."""
        answer = await exchange(self.port, post(good()))
        assert answer.status == 200, answer
        assert json.loads(answer.body)["choices"][0]["message"]["content"]


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["memory", pytest.param("pulsar", marks=pytest.mark.pulsar)]
)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """One fleet for all rows: a row that harms it fails the next one."""
    watch = Watch()
    if request.param == "memory":
        server = MemoryServer()
        fleet = InProcessFleet(lambda: watch.over(MemoryBroker(server)), {"MODEL_NAME": MODEL})
    else:
        url = request.getfixturevalue("pulsar_server").url
        common = {"MODEL_NAME": MODEL, "RES_TOPIC_NAME": f"results-{RUN}"}
        fleet = InProcessFleet(lambda: watch.over(PulsarBroker(url)), common)
    await fleet.node()
    running = await fleet.gateway(
        **KEYS, MODELS=MODEL, BODY_BYTES_MAX=str(BODY_BYTES_MAX), BODY_WAIT_S=str(BODY_WAIT_S)
    )
    yield Place(fleet, watch, running.port)
    await fleet.aclose()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_bad_input(place: Place, row: Row) -> None:
    await place.serves()
    requests, made = place.watch.requests, set(place.watch.made)
    began = time.monotonic()
    answer = await exchange(place.port, row.request)
    took_s = time.monotonic() - began
    assert answer.status == row.status, answer
    assert (answer.error["code"], answer.error["param"]) == (row.code, row.param), answer.error
    assert answer.error["type"] == "invalid_request_error"
    assert len(answer.body) <= 32 * 1024
    assert CANARY not in str(answer)
    assert KEY not in str(answer)
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["content-type"] == "application/json"
    assert ("www-authenticate" in answer.headers) == (row.status == 401)
    assert took_s < row.within_s
    assert place.watch.requests == requests
    assert place.watch.made == made
    await place.serves()


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


GOOD = {
    "an_empty_prompt": good(messages=[{"role": "user", "content": ""}]),
    "u0000_in_the_prompt": good(messages=[{"role": "user", "content": "a\u0000b"}]),
    "special_tokens_as_text": good(messages=[{"role": "user", "content": "<|endoftext|><|im_start|>system"}]),
    "right_to_left_and_zalgo": good(
        messages=[{"role": "user", "content": "\u202e\u05e9\u05dc\u05d5\u05dd Z\u0338\u0321\u036a\u0343"}]
    ),
    "an_emoji_as_two_escaped_halves": json.dumps(good(user="\U0001f600")).encode(),
    "unknown_fields": good(mine={"deep": [1, 2, {"a": None}]}),
    "nulls_where_a_field_may_be_absent": good(n=None, max_tokens=None, temperature=None, stream=None, tools=None),
    "numbers_at_their_bounds": good(n=1, temperature=2, top_p=0, seed=2**63 - 1, top_k=-1, presence_penalty=-2),
    "line_breaks_in_the_user": good(user="a\r\nb\x1b[31m\u2028"),
    "a_schema_that_recurs": with_schema({"properties": {"next": {"$ref": "#"}}}),
    "a_pattern_of_ecmascript": with_schema({"pattern": r"^\p{L}+(?<year>\d{4})\k<year>[\u0000-\uffff]$"}),
    "a_function_without_parameters": with_schema(None),
    "a_public_image": image("https://example.com/a.png"),
    "an_image_as_data": image("data:image/png;base64,AAAA"),
    "an_assistant_with_tool_calls": good(
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ]
    ),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
async def test_what_is_odd_but_right_is_answered(place: Place, body: bytes | dict[str, Any]) -> None:
    assert (await exchange(place.port, post(body))).status == 200


async def test_a_body_that_comes_byte_by_byte_is_cut_at_the_limit(place: Place) -> None:
    requests = place.watch.requests
    async with asyncio.timeout(BODY_WAIT_S + 5), Connection(place.port) as connection:
        connection.send(post(b"", *JSON, "content-length: 1000"))

        async def drip() -> None:
            while not connection.writer.is_closing():
                connection.send(b"{")
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        try:
            answer = await connection.answer()
            assert (answer.status, answer.error["code"]) == (408, "request_timeout")
            assert answer.headers["x-should-retry"] == "true"
            # And it does not go on dripping into a connection that is kept for it.
            assert await connection.closed()
        finally:
            dripping.cancel()
    assert place.watch.requests == requests
    await place.serves()


async def test_a_client_that_hangs_up_in_its_body_leaves_nothing(place: Place) -> None:
    requests = place.watch.requests
    async with Connection(place.port) as connection:
        connection.send(post(b'{"model":', *JSON, "content-length: 1000"))
        await connection.writer.drain()
    await place.serves()
    assert place.watch.requests == requests + 1


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


async def test_while_the_broker_is_down_requests_get_503_and_readiness_tells_why() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": MODEL})
    await fleet.node()
    running = await fleet.gateway()
    try:
        server.set_available(False)
        began = time.monotonic()
        answer = await exchange(running.port, post(good()))
        assert time.monotonic() - began < 2.0
        assert (answer.status, answer.error["code"]) == (503, "queue_unavailable")
        assert answer.headers["x-should-retry"] == "true"
        ready = await exchange(running.port, get("/readyz"))
        assert ready.status == 503
        assert "broker" in json.loads(ready.body)["why"]
        assert (await exchange(running.port, get("/livez"))).status == 200

        server.set_available(True)

        async def serves() -> bool:
            return (await exchange(running.port, post(good()))).status == 200

        assert await until(serves)
        assert (await exchange(running.port, get("/readyz"))).status == 200
    finally:
        await fleet.aclose()
