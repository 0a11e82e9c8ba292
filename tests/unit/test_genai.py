"""What spans call things: the names of the conventions, and nothing that somebody wrote."""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes, url_attributes

from process import genai, span_names
from wire.request import Request
from wire.usage import Usage

REQUEST = Request(
    request_id="req_1",
    model="model",
    endpoint="chat/completions",
    body=b"a prompt",
    gateway="gateway-1",
    received_ms=0,
    deadline_ms=1,
    key_id="a-key",
    user_agent="an-agent",
    n=2,
    max_tokens=5,
    tags={"a": "tag"},
)


def conventional(*modules: object) -> set[object]:
    return {value for module in modules for name, value in vars(module).items() if name.isupper()}


def test_names_are_those_of_the_conventions() -> None:
    ours = {value for name, value in vars(genai).items() if name.isupper() and isinstance(value, str)}
    assert len(ours) == 10
    assert ours <= conventional(gen_ai_attributes)
    shared = {span_names.ERROR, span_names.METHOD, span_names.PATH, span_names.STATUS, span_names.SERVER}
    assert shared <= conventional(error_attributes, http_attributes, server_attributes, url_attributes)
    assert set(genai.OPERATIONS.values()) <= {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert set(genai.PROVIDERS.values()) <= {each.value for each in gen_ai_attributes.GenAiProviderNameValues}


def test_a_request_is_told_by_what_it_asks_for_and_not_by_what_it_says() -> None:
    assert genai.asked(REQUEST) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "model",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.choice.count": 2,
    }


def test_an_answer_is_told_by_its_usage_and_its_end() -> None:
    usage = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2)
    assert genai.answered(usage, "stop") == {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "gen_ai.response.finish_reasons": ["stop"],
    }


def test_a_provider_has_its_conventional_name_or_that_of_its_host() -> None:
    assert genai.provider_at("api.openai.com") == "openai"
    assert genai.provider_at("me.openai.azure.com") == "azure.ai.openai"
    assert genai.provider_at("notopenai.azure.com") == "notopenai.azure.com"
    assert genai.provider_at("127.0.0.1") == "127.0.0.1"
