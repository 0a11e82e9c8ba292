"""The table of provider failures: each row by what providers really send, and no row without a test."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from workernode.outcome import Later, Refused
from workernode.remote.errors import failure_inside, failure_of
from workernode.remote.provider_error import ProviderError, provider_error
from workernode.remote.rules import ROWS, row_for

HTML = b"<html><body>Bad Gateway</body></html>"


class Example(NamedTuple):
    row: str
    status: int
    body: bytes
    kind: type
    code: str
    http_status: int
    again: bool = False


def error(message: str = "", **others: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": None, "param": None, "code": None, **others}}).encode()


def flat(message: Any, **others: Any) -> bytes:
    return json.dumps({"object": "error", "message": message, **others}).encode()


def several(message: str, **others: Any) -> bytes:
    return json.dumps({"success": False, "errors": [{"message": message, **others}], "messages": []}).encode()


QUOTA = (Later, "upstream_quota_exhausted", 502)
KEY = (Later, "upstream_authentication_failed", 502)
RATE = (Later, "upstream_rate_limited", 429)
AGAIN = (Later, "upstream_failed", 502, True)
STRANGE = (Later, "upstream_failed", 502)
MODEL = (Later, "upstream_model_unknown", 502)
TOO_LONG = (Refused, "context_length_exceeded", 400)
FILTERED = (Refused, "content_filter", 400)

EXAMPLES = [
    # OpenAI
    Example("the quota is used up", 429, error(type="insufficient_quota", code="insufficient_quota"), *QUOTA),
    Example("the quota is used up", 429, error(code="billing_not_active"), *QUOTA),
    Example("the quota is used up", 429, error(type="server_error", code="organization_spend_limit_exceeded"), *QUOTA),
    Example(
        "longer than the context",
        400,
        error("This model's maximum context length is 8192 tokens.", code="context_length_exceeded", param="messages"),
        *TOO_LONG,
    ),
    Example(
        "larger than a limit lets pass at all",
        429,
        error("Request too large for gpt-4o on tokens per min (TPM): Limit 30000", code="rate_limit_exceeded"),
        *(Refused, "request_too_large", 413),
    ),
    Example("against a content policy", 400, error("No.", code="content_policy_violation"), *FILTERED),
    Example("an unknown model", 404, error("The model `x` does not exist", code="model_not_found"), *MODEL),
    Example("a key that is not accepted", 401, error("Incorrect API key provided", code="invalid_api_key"), *KEY),
    Example("a key that is not accepted", 403, error(code="unsupported_country_region_territory"), *KEY),
    Example("not allowed", 401, error("You must be a member of an organization to use the API"), *KEY),
    Example("too many requests", 429, error(type="requests", code="rate_limit_exceeded"), *RATE),
    Example("overloaded", 503, error("Slow Down", code="slow_down"), *AGAIN),
    Example("the provider's own fault", 500, error(type="server_error"), *AGAIN),
    Example(
        "the request's own fault",
        404,
        error("This is a chat model and not supported in the v1/completions endpoint.", type="invalid_request_error"),
        *(Refused, "upstream_refused", 404),
    ),
    Example("the request's own fault", 400, error(code="unsupported_value"), Refused, "unsupported_value", 400),
    Example("an unknown model", 403, error("Project x has no access to model `y`", code="model_not_found"), *MODEL),
    # Azure
    Example("a provider that knows no such path", 404, error("Resource not found", code="404"), *STRANGE),
    Example(
        "against a content policy",
        400,
        error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            code="content_filter",
            param="prompt",
            status=400,
            innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
        ),
        *FILTERED,
    ),
    Example("an unknown model", 404, error("The API deployment does not exist.", code="DeploymentNotFound"), *MODEL),
    Example("not allowed", 401, error("Access denied due to invalid subscription key", code="401"), *KEY),
    Example("too many requests, by status", 429, error("Requests have exceeded call rate limit", code="429"), *RATE),
    # Anthropic
    Example("overloaded", 529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', *AGAIN),
    Example("too many requests", 429, b'{"type":"error","error":{"type":"rate_limit_error","message":"m"}}', *RATE),
    Example("longer than the context", 400, error("prompt is too long: 210000 tokens > 200000 maximum"), *TOO_LONG),
    Example("an unknown model", 404, error("model: claude-2", type="not_found_error"), *MODEL),
    Example(
        "a payment is due, in words",
        400,
        error("Your credit balance is too low to access the Anthropic API.", type="invalid_request_error"),
        *QUOTA,
    ),
    Example(
        "a payment is due, in words",
        400,
        error("You have reached your specified API usage limits. You will regain access on 2026-09-01 at 00:00 UTC."),
        *QUOTA,
    ),
    Example(
        "a payment is due, in words",
        429,
        error("You have reached your API usage limits: your organization has crossed it.", type="rate_limit_error"),
        *QUOTA,
    ),
    Example("longer than the context", 400, error("input length and `max_tokens` exceed context limit: 9"), *TOO_LONG),
    # Google
    Example(
        "a key that is not valid",
        400,
        b'[{"error":{"code":400,"message":"API key not valid. Please pass it.","status":"INVALID_ARGUMENT"}}]',
        *KEY,
    ),
    Example("a key that is not valid", 400, error("API key expired. Please renew it.", code=400), *KEY),
    Example("a key that is not valid", 400, error("User location is not supported for the API use."), *KEY),
    Example(
        "an unknown model",
        404,
        b'[{"error":{"code":404,"message":"models/gemini-pro is not found for API version v1.","status":"NOT_FOUND"}}]',
        *MODEL,
    ),
    Example("too many requests", 429, b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]', *RATE),
    Example(
        "a payment is due, in words",
        429,
        b'[{"error":{"message":"Your prepayment credits are depleted. Please go on.","status":"RESOURCE_EXHAUSTED"}}]',
        *QUOTA,
    ),
    Example(
        "a payment is due, in words",
        429,
        b'[{"error":{"message":"Your project has exceeded its monthly spending cap.","status":"RESOURCE_EXHAUSTED"}}]',
        *QUOTA,
    ),
    Example(
        "longer than the context",
        400,
        error("The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        *TOO_LONG,
    ),
    # Groq
    Example(
        "larger than a limit lets pass at all",
        413,
        error("Request too large for model `x` on tokens per minute (TPM)", type="tokens", code="rate_limit_exceeded"),
        *(Refused, "request_too_large", 413),
    ),
    Example(
        "the quota is used up",
        400,
        error(
            "Organization has blocked API access because a spend alert threshold was met.", code="spend_limit_reached"
        ),
        *QUOTA,
    ),
    Example("an unknown model", 400, error("It is no longer supported.", code="model_decommissioned"), *MODEL),
    Example("a key that is not valid", 400, error("It is restricted.", code="organization_restricted"), *KEY),
    Example("a conflict, a timeout or a full house", 498, error("Flex tier capacity exceeded"), *AGAIN),
    Example("the request's own fault", 400, error("m", code="tool_use_failed"), Refused, "tool_use_failed", 400),
    # Mistral
    Example("an unknown model", 400, flat("Invalid model: x", type="invalid_model", code="1500"), *MODEL),
    Example(
        "longer than the context",
        400,
        flat("Prompt contains 9 tokens and 0 draft tokens, too large for model with 8 maximum context length"),
        *TOO_LONG,
    ),
    Example("too many requests, by status", 429, flat("m", type="service_tier_capacity_exceeded", code="3505"), *RATE),
    Example("not allowed", 401, b'{"message":"Unauthorized","request_id":"r"}', *KEY),
    Example(
        "the request's own fault",
        422,
        flat({"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "Extra inputs"}]}, code=None),
        *(Refused, "upstream_refused", 422),
    ),
    # DeepSeek
    Example("a payment is due", 402, error("Insufficient Balance", type="unknown_error"), *QUOTA),
    Example("an unknown model", 400, error("Model Not Exist", type="invalid_request_error"), *MODEL),
    Example("the provider's own fault", 503, error("The server is overloaded"), *AGAIN),
    # OpenRouter
    Example("a payment is due", 402, error("Insufficient credits.", code=402), *QUOTA),
    Example(
        "against a content policy",
        403,
        error("x requires moderation and your input was flagged.", code=403, metadata={"reasons": ["violence"]}),
        *FILTERED,
    ),
    Example(
        "against a content policy",
        403,
        error("Request blocked: prompt injection patterns detected", metadata={"error_type": "permission_denied"}),
        *FILTERED,
    ),
    Example("an unknown model", 400, error("x is not a valid model ID", code=400), *MODEL),
    Example("an unknown model", 404, error("No endpoints found for x.", code=404), *MODEL),
    Example("the provider's own fault", 502, error("Provider returned error", code=502), *AGAIN),
    Example("a payment is due, in words", 403, error("Key limit exceeded (total limit).", code=403), *QUOTA),
    Example(
        "the quota is used up",
        403,
        error("Budget limit exceeded", code=403, metadata={"limit_source": "openrouter_workspace_budget"}),
        *QUOTA,
    ),
    Example(
        "larger than a limit lets pass at all",
        402,
        error("No.", code=402, metadata={"reason": "weight_exceeds_budget", "limit_source": "openrouter_credits"}),
        *(Refused, "request_too_large", 413),
    ),
    Example(
        "more under way than there is credit for",
        402,
        error("No.", code=402, metadata={"reason": "in_flight_budget_exhausted"}),
        *RATE,
    ),
    # LiteLLM
    Example(
        "a payment is due, in words",
        400,
        error("Budget has been exceeded! Current cost: 1.0, Max budget: 0.5", type="budget_exceeded", code="400"),
        *QUOTA,
    ),
    # xAI, Together, Fireworks
    Example(
        "against a content policy",
        403,
        b'{"code":"permission-denied","error":"Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_X"}',
        *FILTERED,
    ),
    Example(
        "a payment is due, in words",
        412,
        error("Account a-1 is suspended, possibly due to reaching the monthly limit.", code="PRECONDITION_FAILED"),
        *QUOTA,
    ),
    Example("a key that is not valid", 400, b'{"code":"Invalid","error":"Incorrect API key provided: x"}', *KEY),
    Example(
        "a payment is due, in words",
        429,
        b'{"code":"Exhausted","error":"Your team 0-1 has either used all available credits or reached its limit."}',
        *QUOTA,
    ),
    Example(
        "a payment is due, in words",
        403,
        b'{"code":"Forbidden","error":"Your newly created team doesn\'t have any credits yet."}',
        *QUOTA,
    ),
    Example(
        "longer than the context",
        400,
        error("This model's maximum prompt length is 8 but the request contains 9 tokens."),
        *TOO_LONG,
    ),
    Example("an unknown model", 400, error("Unable to access model x.", code="model_not_available"), *MODEL),
    # NVIDIA, Hugging Face
    Example(
        "an unknown model",
        410,
        b'{"title":"Gone","status":410,"detail":"The model \'m/x\' has reached its end of life on 2026-08-26."}',
        *MODEL,
    ),
    Example(
        "an unknown model",
        404,
        b'{"title":"Not Found","status":404,"detail":"Function \'0-1\': Not found for account \'a\'"}',
        *MODEL,
    ),
    Example("an unknown model", 400, error("The model 'x' is not enabled.", code="model_not_supported"), *MODEL),
    # Moonshot, Alibaba, Zhipu, Volcengine
    Example("the quota is used up", 403, error("The account is overdue.", code="AccountOverdueError"), *QUOTA),
    Example("a payment is due, in words", 429, error("No resource package. Please recharge.", code="1113"), *QUOTA),
    Example("longer than the context", 400, error("Your request exceeded model token limit: 8"), *TOO_LONG),
    Example("longer than the context", 400, error("Range of input length should be [1, 8]"), *TOO_LONG),
    Example("the quota is used up", 429, error(type="exceeded_current_quota_error"), *QUOTA),
    Example("overloaded", 503, error(type="engine_overloaded_error"), *AGAIN),
    Example("against a content policy", 400, error("m", code="data_inspection_failed"), *FILTERED),
    # vLLM, llama.cpp, Ollama
    Example(
        "longer than the context",
        400,
        flat("However, the model's context length is only 8 tokens, resulting in a maximum input length of 7 tokens."),
        *TOO_LONG,
    ),
    Example(
        "longer than the context",
        400,
        flat("This model's maximum context length is 8 tokens.", type="BadRequestError", code=400),
        *TOO_LONG,
    ),
    Example("an unknown model", 404, flat("The model `x` does not exist.", type="NotFoundError", code=404), *MODEL),
    Example(
        "longer than the context",
        400,
        error("the request exceeds the available context size", type="exceed_context_size_error", code=400),
        *TOO_LONG,
    ),
    Example("the provider's own fault", 503, error("Loading model", type="unavailable_error", code=503), *AGAIN),
    Example("an unknown model", 404, error('model "x" not found, try pulling it first', type="api_error"), *MODEL),
    Example("the provider's own fault", 500, b'{"error":"model runner has unexpectedly stopped"}', *AGAIN),
    # SGLang, LM Studio, TGI
    Example(
        "longer than the context",
        400,
        flat("The input (9 tokens) is longer than the model's context length (8 tokens).", code=400),
        *TOO_LONG,
    ),
    Example(
        "longer than the context",
        400,
        b'{"error":"The number of tokens to keep from the initial prompt is greater than the context length."}',
        *TOO_LONG,
    ),
    Example(
        "longer than the context",
        422,
        b'{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8."}',
        *TOO_LONG,
    ),
    Example(
        "a request that fits no form",
        422,
        b'{"error":"Input validation error: `temperature` must be strictly positive","error_type":"validation"}',
        *(Refused, "upstream_refused", 422),
    ),
    Example(
        "a conflict, a timeout or a full house",
        424,
        b'{"error":"Request failed during generation: CUDA out of memory","error_type":"generation"}',
        *AGAIN,
    ),
    # FastChat, Cloudflare
    Example(
        "an error of the provider's own under a status of the request's",
        400,
        flat("**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**", code=50002),
        *AGAIN,
    ),
    Example("an unknown model", 400, flat("Only a&&b allowed now, your model x", code=40301), *MODEL),
    Example("an unknown model", 400, several("AiError: No such model @cf/x or task", code=5007), *MODEL),
    Example("the request's own fault", 400, several("Bad input.", code=5006), Refused, "5006", 400),
    Example("not allowed", 403, several("The account is not allowed to access this model", code=5018), *KEY),
    Example("a provider that knows no such path", 404, several("Could not route to /client/v4/x"), *STRANGE),
    Example(
        "a payment is due, in words",
        429,
        several("You have used up your daily free allocation of 10,000 neurons.", code=3036),
        *QUOTA,
    ),
    # A gateway of ours
    Example("a request that comes round", 400, error("m", code="loop_detected"), Refused, "loop_detected", 400),
    Example("the provider's own fault", 503, error("m", code="model_unavailable"), *AGAIN),
    # No provider
    Example("a web server that knows no such path, and no provider", 404, HTML, *STRANGE),
    Example("a web server that knows no such path, and no provider", 405, HTML, *STRANGE),
    Example("a web page that forbids, and no provider", 403, HTML, *STRANGE),
    Example("a proxy that lets nobody through", 407, HTML, *AGAIN),
    Example("not allowed", 403, error("Not for you."), *KEY),
    Example("a provider that knows no such path", 404, b'{"detail":"Not Found"}', *STRANGE),
    Example("a provider that knows no such path", 405, b'{"detail":"Method Not Allowed"}', *STRANGE),
    Example("a provider that knows no such path", 404, b'{"message":"no Route matched with those values"}', *STRANGE),
    Example(
        "a provider that knows no such path",
        404,
        error("Unknown request URL: POST /v2/chat/completions.", code="unknown_url"),
        *STRANGE,
    ),
    Example("the request's own fault", 404, error("The file file-1 was not found."), Refused, "upstream_refused", 404),
    Example("the provider's own fault", 502, HTML, *AGAIN),
    Example("the provider's own fault", 504, b"", *AGAIN),
    Example("too many requests, by status", 429, HTML, *RATE),
    Example("anything else", 302, b"", *STRANGE),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.status} {example.row}")
def test_a_failure_is_what_its_row_says(example: Example) -> None:
    assert row_for(example.status, provider_error(example.body)).name == example.row
    failure = failure_of(example.status, {}, example.body, key=None, now_s=0.0)
    found = failure.outcome.error
    assert (type(failure.outcome), found.code, found.http_status, failure.again) == example[3:]


def test_no_row_is_without_a_test() -> None:
    assert {row.name for row in ROWS} == {example.row for example in EXAMPLES}
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', Later, "upstream_failed"),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"m"}}', Later, "upstream_rate_limited"),
        (error("m", code="content_filter"), Refused, "content_filter"),
        (error("m", code=429), Later, "upstream_rate_limited"),
        (error("m", code=403, type=None), Later, "upstream_authentication_failed"),
        (error("maximum context length is 8", type="BadRequestError"), Refused, "context_length_exceeded"),
        (error("m", type="api_error"), Later, "upstream_failed"),
        (error("m", type="invalid_request_error"), Refused, "upstream_refused"),
        (flat("m", code="3505"), Later, "upstream_failed"),
        (b'{"error":"m"}', Later, "upstream_failed"),
        (b'{"error":"Input validation error: `x` is bad","error_type":"validation"}', Refused, "upstream_refused"),
        (HTML, Later, "upstream_failed"),
    ],
)
def test_an_error_without_a_status_is_what_it_says_itself(body: bytes, kind: type, code: str) -> None:
    outcome = failure_inside(body, key=None).outcome
    assert isinstance(outcome, kind)
    assert outcome.error.code == code


def test_a_server_that_lacks_the_path_and_says_so_with_200_is_not_asked_again_at_once() -> None:
    failure = failure_inside(b'{"error":"Unexpected endpoint or method. (POST /v2/chat/completions)"}', key=None)
    assert (type(failure.outcome), failure.again) == (Later, False)


def test_what_the_client_wrote_in_its_words_makes_no_row_fit() -> None:
    """Messages of providers decide only under statuses where they can be meant."""
    said = error("You said: the model does not exist, insufficient balance, maximum context length")
    assert row_for(500, provider_error(said)).name == "the provider's own fault"
    assert row_for(401, provider_error(said)).name == "not allowed"


def test_of_a_message_that_repeats_the_request_only_its_beginning_is_searched() -> None:
    """Or a client could write what takes minutes to search, and its node does nothing else meanwhile."""
    long = ProviderError(message="context length " * 70_000 + "exceeded")
    assert row_for(400, long).name == "the request's own fault"
