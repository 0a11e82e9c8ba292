"""What the upstream is told beside the body."""

from __future__ import annotations

import pytest

from wire.request import Request
from workernode.remote.headers import request_headers

KEY = "sk-canary-0123456789"


def request(*, stream: bool = False) -> Request:
    return Request(
        request_id="req_0123",
        model="ours",
        endpoint="chat/completions",
        body=b"{}",
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("x.openai.azure.com", KEY),
        ("api.openai.com", None),
        ("openai.azure.com.example.org", None),
    ],
)
def test_azure_gets_the_key_in_its_own_header_too(host: str, expected: str | None) -> None:
    headers = request_headers(request(), key=KEY, host=host)
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers.get("api-key") == expected


def test_without_a_key_no_header_has_one() -> None:
    headers = request_headers(request(), key=None, host="x.openai.azure.com")
    assert not {"authorization", "api-key"} & set(headers)


@pytest.mark.parametrize(("stream", "accept"), [(False, "application/json"), (True, "text/event-stream")])
def test_the_form_of_the_answer_is_asked_for(stream: bool, accept: str) -> None:
    headers = request_headers(request(stream=stream), key=None, host="api.openai.com")
    assert (headers["accept"], headers["accept-encoding"]) == (accept, "identity")


def test_each_attempt_of_a_request_has_the_same_identity() -> None:
    headers = request_headers(request(), key=None, host="api.openai.com")
    assert (headers["x-request-id"], headers["idempotency-key"]) == ("0123", "req_0123")
