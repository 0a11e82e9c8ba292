"""Failures of providers: what follows from each, and what reaches a client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wire.errors import MESSAGE_CHARS_MAX, UpstreamRefused
from workernode.outcome import Later, Refused
from workernode.remote.errors import (
    Failure,
    after_first_token,
    failure_inside,
    failure_of,
    strange,
    too_slow,
    unreachable,
    usable,
)

KEY = "sk-canary-0123456789"
HTML = b"<html><body>Bad Gateway</body></html>"
MIDNIGHT_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def openai(message: str = "No.", **others: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": "t", "param": "p", "code": "c", **others}}).encode()


SENT = b'{"model": "m", "messages": [{"role": "user", "content": "Canary prompt, once upon a time in \\u00c9lan."}]}'


def failed(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Failure:
    return failure_of(status, headers or {}, body, key=KEY, now_s=MIDNIGHT_S, sent=SENT)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refusal_is_passed_on_in_the_providers_words(status: int) -> None:
    failure = failed(status, openai())
    assert isinstance(failure.outcome, Refused)
    error = failure.outcome.error
    assert (error.message, error.type, error.param, error.code) == ("No.", "t", "p", "c")
    assert error.http_status == status
    assert not error.retryable
    assert not failure.again


@pytest.mark.parametrize("loc", [None, 7, "body", {"a": 1}])
def test_a_validators_place_may_be_anything(loc: Any) -> None:
    failure = failed(422, json.dumps({"detail": [{"msg": "Too short.", "loc": loc}]}).encode())
    assert isinstance(failure.outcome, Refused)
    assert (failure.outcome.error.message, failure.outcome.error.param) == ("Too short.", None)
    assert isinstance(failed(503, json.dumps({"detail": [{"msg": "Busy.", "loc": loc}]}).encode()).outcome, Later)


@pytest.mark.parametrize("status", [405, 410, 415, 418, 451])
def test_other_client_errors_are_refusals_with_status_400(status: int) -> None:
    failure = failed(status, openai())
    assert isinstance(failure.outcome, Refused)
    assert failure.outcome.error.http_status == 400


@pytest.mark.parametrize(
    ("status", "body", "code", "http_status", "again"),
    [
        (401, openai(), "upstream_authentication_failed", 502, False),
        (403, openai(), "upstream_authentication_failed", 502, False),
        (402, openai(), "upstream_quota_exhausted", 502, False),
        (429, openai(code="insufficient_quota"), "upstream_quota_exhausted", 502, False),
        (429, openai(type="insufficient_quota", code=None), "upstream_quota_exhausted", 502, False),
        (403, openai(code="insufficient_quota"), "upstream_quota_exhausted", 502, False),
        (408, openai(), "upstream_failed", 502, True),
        (409, openai(), "upstream_failed", 502, True),
        (429, openai(), "upstream_rate_limited", 429, False),
        (429, HTML, "upstream_rate_limited", 429, False),
        (500, openai(), "upstream_failed", 502, True),
        (502, HTML, "upstream_failed", 502, True),
        (503, b"", "upstream_failed", 502, True),
        (529, openai(), "upstream_failed", 502, True),
        (302, b"", "upstream_failed", 502, False),
        (404, HTML, "upstream_failed", 502, False),
    ],
)
def test_what_is_not_the_requests_fault_is_for_later(
    status: int, body: bytes, code: str, http_status: int, again: bool
) -> None:
    failure = failed(status, body)
    assert isinstance(failure.outcome, Later)
    error = failure.outcome.error
    assert (error.code, error.http_status, error.retryable) == (code, http_status, True)
    assert "No." not in error.message
    assert failure.again is again


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_by_a_web_page_has_a_sentence_of_ours(status: int) -> None:
    outcome = failed(status, HTML).outcome
    assert isinstance(outcome, Refused)
    assert outcome.error.message == "The provider of this model refused the request."
    assert (outcome.error.code, outcome.error.type) == ("upstream_refused", UpstreamRefused.type)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"Failed to deserialize the JSON body:\n messages[0]: caf\xc3\xa9\n",
            "Failed to deserialize the JSON body: messages[0]: caf\u00e9",
        ),
        (f"key {KEY}".encode() + b"x" * 99_999, "key ***" + "x" * (MESSAGE_CHARS_MAX - 7)),
        (b"\x00\x01", "The provider of this model refused the request."),
        (b" \n", "The provider of this model refused the request."),
    ],
)
def test_a_refusal_in_plain_words_is_passed_on_in_them(body: bytes, message: str) -> None:
    """As DeepSeek's of what it cannot read."""
    outcome = failed(422, body).outcome
    assert isinstance(outcome, Refused)
    assert (outcome.error.message, outcome.error.http_status) == (message, 422)


def test_a_refusal_is_bounded_and_has_no_api_key() -> None:
    words = {"type": "t" * 999, "code": f"code-{KEY}", "param": f"{KEY}"}
    outcome = failed(400, openai(f"key {KEY} " + "x" * 9999, **words)).outcome
    error = outcome.error
    assert KEY not in repr(outcome)
    assert len(error.message) == MESSAGE_CHARS_MAX
    assert error.message.startswith("key *** x")
    assert len(error.type) == 128


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (openai(code=None, type="server_error"), Later, "upstream_failed"),
        (openai(code=429), Later, "upstream_rate_limited"),
        (openai(code=429, type="invalid_request_error"), Later, "upstream_rate_limited"),
        (openai(code=401), Later, "upstream_authentication_failed"),
        (openai(code="insufficient_quota"), Later, "upstream_quota_exhausted"),
        (openai(code="bad", type="invalid_request_error"), Refused, "bad"),
        (openai(code=400), Refused, "400"),
        (HTML, Later, "upstream_failed"),
    ],
)
def test_an_error_inside_a_good_status_counts_as_what_it_says(body: bytes, kind: type, code: str) -> None:
    outcome = failure_inside(body, key=KEY).outcome
    assert isinstance(outcome, kind)
    assert outcome.error.code == code


def test_the_wait_that_the_upstream_asks_for_travels_with_the_error() -> None:
    failure = failed(429, openai(), {"retry-after": "2.5"})
    assert failure.wait_s == 2.5
    assert failure.outcome.error.retry_after_ms == 2500


def test_the_wait_that_google_words_in_the_body_counts_where_no_header_says_one() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    body = json.dumps([{"error": {"code": 429, "message": "No.", "details": [{"@type": "other"}, info]}}]).encode()
    assert failed(429, body).wait_s == 34.5
    assert failed(429, body, {"retry-after": "2"}).wait_s == 2.0
    for details in (
        None,
        "x",
        [None],
        [{"retryDelay": "soon"}],
        [{"retryDelay": "34"}],
        [{"retryDelay": 3}],
        [{"retryDelay": "-1s"}],
    ):
        assert failed(429, json.dumps({"error": {"message": "No.", "details": details}}).encode()).wait_s == 0.0


def test_what_is_stated_beside_a_failure_travels_with_it() -> None:
    (said,) = failed(429, openai(), {"x-ratelimit-limit-requests": "60"}).said
    assert said.per_min == 60


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, {}), (403, {}), (402, {}), (429, {"code": "insufficient_quota"}), (404, {"code": "model_not_found"})],
)
def test_of_lasting_trouble_the_providers_words_are_told_without_the_key(status: int, error: dict[str, str]) -> None:
    outcome = failed(status, openai(f"The key {KEY} is not good." + "x" * 1000, **error)).outcome
    assert isinstance(outcome, Later)
    assert outcome.said.startswith("The key *** is not good.")
    assert len(outcome.said) == 500
    assert "not good" not in outcome.error.message


@pytest.mark.parametrize(
    "said",
    [
        "You said: canary prompt, once upon a time in \u00c9lan.",
        "We do not like ONCE UPON A TIME IN.",
        "a time in \u00e9lan.",
    ],
)
def test_words_that_repeat_what_was_sent_are_not_told(said: str) -> None:
    outcome = failed(401, openai(f"Your key is wrong. {said}")).outcome
    assert isinstance(outcome, Later)
    assert outcome.said == ""


ECHOES = [
    ({"The Model does not exist": 1}, 400, "Unrecognized request argument supplied: The Model does not exist"),
    ({"tool_choice": "Not found"}, 400, "No tool for model gpt-4o: 'Not found'"),
    ({"api key expired": 1}, 400, "API key expired is no parameter."),
    ({"stop": ["invalid model \ud83d"]}, 400, "Invalid model"),
    ({"stop": ["invalid model"]}, 400, "An invalid model is no word to stop at."),
]


@pytest.mark.parametrize(("fields", "status", "message"), ECHOES, ids=[echo[2] for echo in ECHOES])
def test_what_a_client_makes_a_provider_say_puts_no_node_to_rest(
    fields: dict[str, Any], status: int, message: str
) -> None:
    sent = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}).encode()
    body = openai(message, code=None)
    assert isinstance(failed(status, body).outcome, Later)
    outcome = failure_of(status, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
    assert isinstance(outcome, Refused)
    assert outcome.error.message == message
    assert isinstance(failure_of(401, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome, Later)


def test_a_refusal_is_what_it_is_though_the_client_wrote_its_words() -> None:
    sent = b'{"messages":[{"role":"user","content":"What is a maximum context length?"}]}'
    body = openai("This model's maximum context length is 8 tokens.", code=None)
    outcome = failure_of(400, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
    assert outcome.error.code == "context_length_exceeded"


ANTHROPICS = (
    "This request would exceed the rate limit for your organization (0dccdde6-f924) of 20,000 input tokens per minute. "
    "Please reduce the prompt length or the maximum tokens requested, or try again later."
)


@pytest.mark.parametrize(("message", "tokens", "fits"), [(ANTHROPICS, 20_000, True), (ANTHROPICS, 20_001, False)])
def test_a_prompt_of_more_tokens_than_a_minute_has_is_refused_and_not_tried_for_ever(
    message: str, tokens: int, fits: bool
) -> None:
    sent = json.dumps({"messages": [{"role": "user", "content": "x" * tokens * 4}]}).encode()
    body = openai(message, type="rate_limit_error", code="rate_limit_error")
    outcome = failure_of(429, {"retry-after": "9"}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
    if fits:
        assert isinstance(outcome, Later)
        assert outcome.error.code == "upstream_rate_limited"
    else:
        assert isinstance(outcome, Refused)
        found = outcome.error
        assert (found.code, found.http_status, found.message) == ("request_too_large", 413, message)


OPENROUTERS = (
    "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford "
    "4276. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account"
)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_request_that_asks_for_more_tokens_than_there_is_credit_for_puts_no_node_to_rest(name: str) -> None:
    """It may be any client's, and others ask for less. One that names no number has the model's greatest."""
    body = openai(OPENROUTERS, type=None, param=None, code=402)
    for asked, kind in ((65_536, Refused), (None, Later)):
        sent = json.dumps({"messages": [], name: asked}).encode()
        outcome = failure_of(402, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
        assert isinstance(outcome, kind)
        expected = ("request_too_large", 413) if asked else ("upstream_quota_exhausted", 502)
        assert (outcome.error.code, outcome.error.http_status) == expected
    short = openai("Insufficient credits.", code=402)
    assert isinstance(failure_of(402, {}, short, key=KEY, now_s=MIDNIGHT_S, sent=b'{"max_tokens":9}').outcome, Later)
    assert isinstance(failure_of(402, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=b"no JSON").outcome, Later)


@pytest.mark.parametrize("limit", ["9" * 5000, ",", "20,000 output"])
def test_a_limit_that_is_no_number_of_input_tokens_says_nothing_of_a_prompt(limit: str) -> None:
    body = openai(ANTHROPICS.replace("20,000", limit))
    assert isinstance(failure_of(429, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=SENT * 5000).outcome, Later)


def test_not_even_a_short_prompt_is_told() -> None:
    sent = b'{"messages": [{"role": "user", "content": "Canary"}]}'
    body = openai("Your key is wrong, and you said canary.")
    outcome = failure_of(401, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
    assert isinstance(outcome, Later)
    assert outcome.said == ""


def test_the_models_name_is_told() -> None:
    sent = b'{"model": "a-model-of-somebody", "messages": [{"role": "user", "content": "Canary"}]}'
    body = openai("The model a-model-of-somebody does not exist.", code="model_not_found")
    outcome = failure_of(404, {}, body, key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
    assert isinstance(outcome, Later)
    assert outcome.said == "The model a-model-of-somebody does not exist."


def test_a_key_that_stands_for_none_garbles_no_sentence() -> None:
    outcome = failure_of(400, {}, openai("There is none."), key="none", now_s=MIDNIGHT_S).outcome
    assert outcome.error.message == "There is none."


def test_words_beside_a_request_that_is_too_long_to_look_through_are_not_told() -> None:
    sent = b'{"prompt": "%s"}' % (b"x" * 300_000)
    outcome = failure_of(401, {}, openai("No."), key=KEY, now_s=MIDNIGHT_S, sent=sent).outcome
    assert isinstance(outcome, Later)
    assert outcome.said == ""


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_of_other_trouble_they_are_not_for_they_may_repeat_the_prompt(status: int) -> None:
    outcome = failed(status, openai("Canary prompt.")).outcome
    assert isinstance(outcome, Later)
    assert "anary" not in repr(outcome)


def test_a_failure_after_the_first_token_ends_the_request() -> None:
    for failure in (failed(503), failed(401), failed(429), unreachable(), too_slow()):
        later = after_first_token(failure)
        assert isinstance(later.outcome, Refused)
        assert later.outcome.error.code == "upstream_failed"
        assert not later.again
    refused = failed(400, openai())
    assert after_first_token(refused) is refused
    assert "API_URL" not in after_first_token(strange()).outcome.error.message


@pytest.mark.parametrize(("key", "expected"), [(None, None), ("", None), (" \n", None), (f" {KEY}\n", KEY)])
def test_an_empty_key_is_none(key: str | None, expected: str | None) -> None:
    assert usable(key) == expected


@pytest.mark.parametrize("key", ["sk-a\r\nx: y", "sk-ü", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_an_authentication_failure(key: str) -> None:
    with pytest.raises(Failure) as failure:
        usable(key)
    assert failure.value.outcome.error.code == "upstream_authentication_failed"
    assert key not in repr(failure.value.outcome)
