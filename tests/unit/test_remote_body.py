"""What of a request's body changes on its way to the upstream, and what does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wire.errors import InvalidRequest
from wire.request import Request
from workernode.remote.body import as_body, upstream_fields

if TYPE_CHECKING:
    from workernode.remote.dialects.dialect import Adapter


def upstream_body(body: bytes, *, model: str, stream: bool, adapters: tuple[Adapter, ...] = ()) -> bytes:
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint="chat/completions",
        body=body,
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
    )
    return as_body(upstream_fields(request, model=model, adapters=frozenset(adapters)))


def test_only_the_model_of_a_whole_request_is_replaced() -> None:
    body = b'{"model":"ours","messages":[ {"role":"user", "content":"\\u00fc\xc3\xbc"} ],"temperature":1.0e0,"x":1E400}'
    expected = body.replace(b'"ours"', b'"theirs"')
    assert upstream_body(body, model="theirs", stream=False) == expected


def test_the_usage_of_a_stream_is_asked_for_and_other_stream_options_stay() -> None:
    body = b'{"model":"ours","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}}'
    sent = json.loads(upstream_body(body, model="theirs", stream=True))
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("options", [b"", b',"stream_options":null', b',"stream_options":{}'])
def test_the_usage_of_a_stream_is_asked_for_where_the_client_did_not(options: bytes) -> None:
    sent = upstream_body(b'{"model":"ours","stream":true' + options + b"}", model="theirs", stream=True)
    assert sent == b'{"model":"theirs","stream":true,"stream_options":{"include_usage":true}}'


def test_what_the_gateway_understood_of_stream_is_what_the_upstream_is_asked_for() -> None:
    assert upstream_body(b'{"model":"m","stream":true}', model="m", stream=False) == b'{"model":"m","stream":false}'
    assert upstream_body(b'{"model":"m","stream":null}', model="m", stream=False) == b'{"model":"m","stream":null}'
    assert json.loads(upstream_body(b'{"model":"m"}', model="m", stream=True))["stream"] is True


def test_a_repeated_field_reaches_the_upstream_once() -> None:
    assert upstream_body(b'{"model":"a","model":"b","x":1,"x":2}', model="c", stream=False) == b'{"model":"c","x":2}'


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"x":NaN}', b'{"x":"\\ud800"}', b'{"\xff":1}', b"[" * 20000]
)
def test_a_body_that_is_no_json_object_is_the_requests_fault(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        upstream_body(body, model="m", stream=False)


def test_stream_options_that_are_no_object_are_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        upstream_body(b'{"stream_options":[]}', model="m", stream=True)
    assert refusal.value.param == "stream_options"
