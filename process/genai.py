"""OpenTelemetry's names for what is asked of a model and what comes of it, all of them here.

They follow the semantic conventions for generative AI, which are still in development: should a name change, it changes
in this file. What a prompt or an answer says is none of them, and is never put into a span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire.request import Endpoint, Request
    from wire.usage import Usage

Attributes = dict[str, str | int | bool | list[str]]

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
MAX_TOKENS = "gen_ai.request.max_tokens"
CHOICES = "gen_ai.request.choice.count"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

OPERATIONS: dict[Endpoint, str] = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.cohere.com": "cohere",
}
"""The conventions' names of providers, by their hosts; others go by their host's."""


def asked(request: Request) -> Attributes:
    """What a request asks for."""
    attributes: Attributes = {OPERATION: OPERATIONS[request.endpoint], REQUEST_MODEL: request.model}
    if request.max_tokens is not None:
        attributes[MAX_TOKENS] = request.max_tokens
    if request.n is not None and request.n != 1:
        attributes[CHOICES] = request.n
    return attributes


def answered(usage: Usage, finish_reason: str | None) -> Attributes:
    """What an answer used, and why it ended."""
    attributes: Attributes = {INPUT_TOKENS: usage.prompt_tokens, OUTPUT_TOKENS: usage.completion_tokens}
    if usage.cached_tokens:
        attributes[CACHED_TOKENS] = usage.cached_tokens
    if usage.reasoning_tokens:
        attributes[REASONING_TOKENS] = usage.reasoning_tokens
    if finish_reason is not None:
        attributes[FINISH_REASONS] = [finish_reason]
    return attributes


def provider_at(host: str) -> str:
    """The name of the provider with this host."""
    return next((name for known, name in PROVIDERS.items() if host == known or host.endswith(f".{known}")), host)
