"""What a preflight hears, word for word, and which origins can be set."""

from __future__ import annotations

import pytest

from gateway.http.cors import MAX_AGE_S, Cors, parse_origins

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


def test_a_page_may_send_every_header_that_it_asks_for() -> None:
    """Such as those in which clients tell about themselves: new ones come with each version of a library."""
    asked = "Authorization,content-type, X-Stainless-OS,x-title,dangerously-allow-browser,baggage,x-title"
    answer = preflight(Cors(frozenset({PAGE})), access_control_request_headers=asked)
    assert answer is not None
    assert answer[b"access-control-allow-headers"] == (
        b"authorization, content-type, x-stainless-os, x-title, dangerously-allow-browser, baggage"
    )


@pytest.mark.parametrize("asked", ["", "a b", "a:b", "a\x00", "é", ",,"])
def test_what_is_no_name_of_a_header_is_not_repeated(asked: str) -> None:
    answer = preflight(Cors(frozenset({PAGE})), access_control_request_headers=f"{asked},accept")
    assert answer is not None
    assert answer[b"access-control-allow-headers"] == b"accept"


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
