"""A conversation as clients may send it. Declared once, read by msgspec; unknown fields pass.

Facts about fields and ranges are those of OpenAI's published API description.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.endpoints.fields import Count, Generation
from gateway.endpoints.reading import REFUSED_FIELDS
from gateway.endpoints.rules import REFUSED, STREAM_OPTIONS, Rule, having, when

MESSAGES_MAX = 10_000
TOOLS_MAX = 128

ToolCalls = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["array", "null"]})] | UnsetType
FunctionCall = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"]})] | UnsetType
Schema = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "boolean"]})] | UnsetType
Parameters = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "boolean", "null"]})] | UnsetType
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Url(msgspec.Struct):
    """Where something lies that is no text."""

    url: Annotated[str, Meta(extra_json_schema={"pattern": "^([Hh][Tt][Tt][Pp][Ss]?|[Dd][Aa][Tt][Aa]):"})]


class Part(msgspec.Struct):
    """A part of a message's content."""

    type: str
    image_url: Url | None = None
    video_url: Url | None = None
    audio_url: Url | None = None


class Message(msgspec.Struct):
    """One turn of the conversation."""

    role: Role
    content: str | list[Part] | None = None
    tool_call_id: str | None = None
    tool_calls: ToolCalls = UNSET
    function_call: FunctionCall = UNSET


MESSAGE_RULES: Rule = {
    "allOf": [
        when("role", {"const": "tool"}, having("tool_call_id", {"type": "string", "minLength": 1})),
        when(
            "role",
            {"enum": ["system", "developer", "user", "tool"]},
            having("content", {"type": ["string", "array"]}),
        ),
    ]
}
Messages = Annotated[
    list[Annotated[Message, Meta(extra_json_schema=MESSAGE_RULES)]], Meta(min_length=1, max_length=MESSAGES_MAX)
]


class Function(msgspec.Struct):
    """What a tool does, and the JSON Schema of its arguments."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    parameters: Parameters = UNSET


class Tool(msgspec.Struct):
    """What the model may call."""

    type: str
    function: Function | None = None


class JsonSchema(msgspec.Struct):
    """The schema that an answer shall follow."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    schema: Schema = UNSET


class ResponseFormat(msgspec.Struct):
    """The form of the answer."""

    type: str
    """``text``, ``json_object``, ``json_schema``, or what else its engine knows, such as vLLM's ``structural_tag``."""
    json_schema: JsonSchema | None = None


class ChatRequest(Generation, kw_only=True):
    """The fields our side can judge. Everything else in the body is the node's business, and reaches it untouched."""

    messages: Messages
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=TOOLS_MAX)] | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: dict[str, bool | float | str | None] | None = None
    best_of: Literal[1] | None = None
    """Of completions. Some engines would take it here too, and make more answers than anybody has counted on."""


class FastChatRequest(ChatRequest, kw_only=True):
    """FastChat's form of the same."""

    messages: str | Messages  # type: ignore[assignment]


NO_TEMPLATE_VALUES = (*REFUSED_FIELDS, "tokenize", "messages", "conversation", "tools")
"""What some engines take from ``chat_template_kwargs`` for their own arguments: a request could bring a template."""
FORMAT: Rule = when("type", {"const": "json_schema"}, having("json_schema", {"type": "object", "required": ["schema"]}))
RULES: Rule = {
    "allOf": [
        REFUSED,
        STREAM_OPTIONS,
        when("top_logprobs", {"type": "integer"}, having("logprobs", {"const": True})),
        {"properties": {"response_format": FORMAT}},
        {"properties": {"chat_template_kwargs": {"propertyNames": {"not": {"enum": list(NO_TEMPLATE_VALUES)}}}}},
    ]
}
"""What no single field tells."""
