"""What a preflight hears, word for word, and which origins can be set."""

from __future__ import annotations

import pytest

from gateway.http.cors import MAX_AGE_S, SENT, Cors, parse_origins

PAGE = "https://app.example"


def preflight(cors: Cors, *, method: str = "OPTIONS", **headers: str) -> dict[bytes, bytes] | None:
    asked = {"origin": PAGE, "access_control_request_method": "POST", **headers}
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in asked.items() if value]
    answer = cors.preflight({"method": method, "headers": sent})
    return None if answer is None else dict(answer)


def test_a_preflight_may_be_kept_and_by_no_cache_for_another_question() -> None:
    for origins in ({PAGE}, {"*"}):
        answer = preflight(Cors(frozenset(origins)))
        assert answer is not None
        assert answer[b"access-control-max-age"] == b"%d" % MAX_AGE_S
        assert answer[b"vary"] == b"Origin, Access-Control-Request-Headers"
    assert preflight(Cors(frozenset({"https://other.example"}))) == {b"vary": b"Origin, Access-Control-Request-Headers"}


def test_every_header_of_the_api_may_be_sent_and_of_others_openais_clients_own_alone() -> None:
    asked = "X-Stainless-OS, x-stainless-os,x-stainless-,x-stainless-a1,x-evil," + "x-stainless-" + "a" * 41
    answer = preflight(Cors(frozenset({PAGE})), access_control_request_headers=asked)
    assert answer is not None
    assert answer[b"access-control-allow-headers"].decode().split(", ") == [*sorted(SENT), "x-stainless-os"]
    assert {"authorization", "content-type", "traceparent", "x-client-request-id", "x-request-timeout-ms"} <= SENT
    of_openais_clients = {"accept", "idempotency-key", "openai-beta", "openai-organization", "openai-project"}
    assert of_openais_clients | {"tracestate", "user-agent"} <= SENT


def test_only_a_browsers_question_is_a_preflight() -> None:
    cors = Cors(frozenset({PAGE}))
    assert preflight(cors) is not None
    assert preflight(cors, method="POST") is None
    assert preflight(cors, origin="") is None
    assert preflight(cors, access_control_request_method="") is None


def test_an_answer_that_is_the_same_for_every_origin_varies_by_none() -> None:
    assert b"vary" not in dict(Cors(frozenset({"*"})).headers({"headers": [(b"origin", PAGE.encode())]}))
    assert Cors(frozenset({PAGE})).headers({"headers": []}) == [(b"vary", b"Origin")]


@pytest.mark.parametrize(
    "origin",
    ["https://a.example:8443", "http://a.example:443", "https://a.example:80", "http://[::80]", "tauri://localhost"],
)
def test_an_origin_as_browsers_send_it_can_be_set(origin: str) -> None:
    assert parse_origins(f" {origin} ,,") == {origin}
