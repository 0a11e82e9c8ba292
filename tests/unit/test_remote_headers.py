"""What the upstream is told beside the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wire.request import Request
from workernode.remote.headers import request_headers

if TYPE_CHECKING:
    from workernode.remote.dialects.dialect import Adapter

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


def headers(
    a_request: Request | None = None,
    *,
    first: int = 0,
    key: str | None = None,
    adapters: tuple[Adapter, ...] = (),
    via: tuple[str, ...] = ("node-0123",),
) -> dict[str, str]:
    return request_headers(
        a_request or request(), first=first, key=key, adapters=frozenset(adapters), via=via, remaining_s=1.5
    )


def test_azure_gets_the_key_in_its_own_header_too() -> None:
    assert headers(key=KEY)["authorization"] == f"Bearer {KEY}"
    assert "api-key" not in headers(key=KEY)
    for_azure = headers(key=KEY, adapters=("api-key-header",))
    assert (for_azure["authorization"], for_azure["api-key"]) == (f"Bearer {KEY}", KEY)


def test_without_a_key_no_header_has_one() -> None:
    assert not {"authorization", "api-key"} & set(headers(adapters=("api-key-header",)))


@pytest.mark.parametrize(("stream", "accept"), [(False, "application/json"), (True, "text/event-stream")])
def test_the_form_of_the_answer_is_asked_for(stream: bool, accept: str) -> None:
    asked = headers(request(stream=stream))
    assert (asked["accept"], asked["accept-encoding"]) == (accept, "identity")


def test_each_attempt_of_a_request_has_the_same_identity() -> None:
    made = headers()
    assert (made["x-request-id"], made["idempotency-key"]) == ("0123", "req_0123")


def test_each_call_of_a_request_wants_an_answer_of_its_own() -> None:
    calls = [headers(first=first)["idempotency-key"] for first in (0, 1, 2)]
    assert calls == ["req_0123", "req_0123-1", "req_0123-2"]


def test_every_provider_hears_through_which_nodes_a_request_came() -> None:
    assert headers(via=("node-0123", "node-4567"))["x-workernode-via"] == "node-0123,node-4567"


def test_a_gateway_of_ours_hears_how_much_time_is_left() -> None:
    assert headers(adapters=("time-left",))["x-request-timeout-ms"] == "1500"
    assert "x-request-timeout-ms" not in headers()
