"""Whatever a client sends as a body, reading it ends in a request or in an error that is the client's."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.endpoints.chat import ChatCompletions
from gateway.endpoints.chat_request import ChatRequest
from gateway.endpoints.endpoint import Asked
from gateway.endpoints.media_address import reachable_from_outside
from gateway.endpoints.reading import REFUSED_FIELDS
from gateway.http.errors import error_headers
from process.http_errors import error_json
from wire.errors import FleetError

ERROR_BYTES_MAX = 32 * 1024
WITHIN_S = 1.0
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 2**64, 10**400, -1, 0, 1e308])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=50) | st.sampled_from(["x" * 5000, "\ud800", "\0"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
schemas = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$ref", "$defs", "pattern", "properties", "a", "type"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
        | st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/", "#/a", "#/$defs/a", "#/$defs/0", "x", ""])})
        | st.fixed_dictionaries({"pattern": st.text("()[]{}*+?\\^$|,-pPux0kI<>:=!aÿ\U0010ffff", max_size=30)})
    ),
    max_leaves=20,
)
messages = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "user", "assistant", "tool", "x"]) | values,
            "content": values
            | st.lists(st.fixed_dictionaries({"type": values}, optional={"image_url": values, "video_url": values})),
            "tool_call_id": values,
            "tool_calls": values,
            "function_call": values,
        },
    ),
    max_size=4,
)
tools = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function"), "function": st.fixed_dictionaries({"name": st.just("f"), "parameters": schemas})}
    ),
    max_size=3,
)
fields = st.sampled_from([*ChatRequest.__struct_fields__, *REFUSED_FIELDS, "unknown"])


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, NaN and lone surrogates included."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def judged(body: bytes) -> Asked | FleetError:
    """The request, or the error, which is a client's error whatever the body."""
    began = time.process_time()
    outcome = parsed(body)
    assert time.process_time() - began < WITHIN_S
    if isinstance(outcome, FleetError):
        assert 400 <= outcome.http_status < 500
        rendered = error_json(outcome.body())
        assert len(rendered) <= ERROR_BYTES_MAX
        assert set(json.loads(rendered)["error"]) == {"message", "type", "param", "code"}
        assert all(b"\n" not in value and b"\r" not in value for _, value in error_headers(outcome.body()))
    return outcome


def parsed(body: bytes) -> Asked | FleetError:
    try:
        return ChatCompletions().parse(body, "/v1/chat/completions")
    except FleetError as error:
        return error


@given(st.binary(max_size=2000))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'"' + b"\\" * 100_001)
def test_any_bytes_become_a_request_or_a_clients_error(body: bytes) -> None:
    judged(body)


@given(values)
def test_any_json_becomes_a_request_or_a_clients_error(value: Any) -> None:
    judged(as_json(value))


@given(st.dictionaries(fields, values, max_size=6))
def test_any_value_in_any_field_is_taken_or_a_clients_error(changes: dict[str, Any]) -> None:
    judged(as_json({**GOOD, **changes}))


@given(messages)
def test_any_messages_are_taken_or_a_clients_error(value: list[Any]) -> None:
    judged(as_json({**GOOD, "messages": value}))


@given(tools, schemas)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_schema_is_taken_or_a_clients_error(some: list[Any], schema: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    judged(as_json({**GOOD, "tools": some, "response_format": wanted}))


@given(st.data())
def test_a_good_body_with_some_bytes_changed_is_taken_or_a_clients_error(data: st.DataObject) -> None:
    body = bytearray(as_json({**GOOD, "n": 2, "stop": ["a"], "logit_bias": {"5": 1}, "user": "\u00e9\u2028"}))
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    judged(bytes(body))


@given(st.integers(0, 60))
def test_a_body_that_breaks_off_is_refused(cut: int) -> None:
    whole = as_json(GOOD)
    assert isinstance(judged(whole[: min(cut, len(whole) - 1)]), FleetError)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b" ", "it is empty"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
        (b"{'model': 'm'}", "object keys must be strings (byte 1)"),
        (b'{"model": "m",}', "trailing comma in object (byte 14)"),
        ('{"model": "\u00e9"}'.encode("latin-1"), "it is not UTF-8 (byte 11)"),
        (b'{"model": "m"', "it ends too early, or an escape in it is half of a surrogate pair"),
        (as_json(GOOD).replace(b"hi", b"\\ud83d"), "it ends too early, or an escape in it is half of a surrogate pair"),
        (b'{"mine":' + b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_body_that_is_no_json_is_said(body: bytes, why: str) -> None:
    error = judged(body)
    assert isinstance(error, FleetError)
    assert (error.own_code, error.message) == ("invalid_json", f"The body is not valid JSON: {why}.")


@given(st.sampled_from(REFUSED_FIELDS), st.data())
def test_a_refused_field_is_found_however_json_spells_it(name: str, data: st.DataObject) -> None:
    spelled = "".join(f"\\u{ord(c):04x}" if data.draw(st.booleans()) else c for c in name)
    error = judged(as_json(GOOD)[:-1] + f', "{spelled}": null}}'.encode())
    assert isinstance(error, FleetError)
    assert (error.param, error.own_code) == (name, "unsupported_parameter")


@given(values)
def test_an_unknown_field_of_any_valid_json_passes(value: Any) -> None:
    try:
        body = json.dumps({**GOOD, "unknown": value}, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return  # NaN and lone surrogates are no valid JSON
    assert isinstance(judged(body), Asked)


@given(st.text(max_size=200))
def test_what_a_client_wrote_is_not_repeated(text: str) -> None:
    marked = f"CANARY{text}CANARY"
    for changes in ({"user": marked * 200}, {"messages": [{"role": marked}]}, {"n": marked}, {marked: 1, "n": 0}):
        error = judged(as_json({**GOOD, **changes}))
        assert isinstance(error, FleetError)
        assert "CANARY" not in error.message
        assert "CANARY" not in (error.param or "")


@pytest.mark.parametrize(
    "host", ["0", "127.1", "0x7f.0.0.1", "0x7f00000a", "017700000001", "2130706433", "127.0.0.1.", "1.2.3", "a.0x1"]
)
def test_a_number_in_any_notation_is_an_address_and_not_a_name(host: str) -> None:
    assert not reachable_from_outside(f"http://{host}/")


@given(st.ip_addresses())
def test_only_addresses_of_the_whole_world_are_reachable(address: Any) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    if not address.is_global or address.is_multicast:
        assert not reachable_from_outside(f"http://{host}/")


@given(st.text(max_size=60))
def test_any_address_is_judged_without_an_error(url: str) -> None:
    reachable_from_outside(url)
    reachable_from_outside(f"http://{url}")
