"""``POST /v1/chat/completions``: what a request may look like. Declared once, read by msgspec; unknown fields pass.

Facts about fields and ranges are those of OpenAI's published API description.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.schema_check import check_schema
from wire.errors import InvalidRequest

MESSAGES_MAX = 10_000
TOOLS_MAX = 128
STOPS_MAX = 16
LOGIT_BIAS_MAX = 1024
MODEL_CHARS_MAX = 256

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS_MAX)]


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    image_url: _ImageUrl | UnsetType = UNSET


class _Message(msgspec.Struct):
    role: Role
    content: str | list[_Part] | None = None
    tool_call_id: str | None = None
    tool_calls: list[Any] | None = None
    function_call: dict[str, Any] | None = None


class _Function(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    parameters: Any = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | UnsetType = UNSET


class _JsonSchema(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    schema: Any = None


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | UnsetType = UNSET


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """The fields our side can judge. Everything else in the body is the node's business, and reaches it untouched."""

    model: Name
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=MESSAGES_MAX)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Meta(pattern=r"^\d{1,10}$")], Annotated[float, Meta(ge=-100, le=100)]],
            Meta(max_length=LOGIT_BIAS_MAX),
        ]
        | None
    ) = None
    stop: str | Annotated[list[str], Meta(max_length=STOPS_MAX)] | None = None
    tools: Annotated[list[_Tool], Meta(max_length=TOOLS_MAX)] | None = None
    response_format: _ResponseFormat | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    chat_template_kwargs: dict[str, bool | str] | None = None


REFUSED_FIELDS = (
    "api_base",
    "base_url",
    "api_key",
    "extra_headers",
    "chat_template",
    "trust_remote_code",
    "prompt_embeds",
)
"""Fields that would steer routing or run code somewhere. They are refused, not dropped: silence would mislead."""

_decoder = msgspec.json.Decoder(ChatRequest)
_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_refused = re.compile(rb'"(?:%s)"' % "|".join(REFUSED_FIELDS).encode())
_PATH = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_ENUM = re.compile(r"Invalid enum value .*", re.DOTALL)
_FIELD = re.compile(r"required field `([^`]+)`")


def parse_chat(body: bytes) -> ChatRequest:
    """Read and check a body. Raises :class:`wire.errors.InvalidRequest` with ``param`` where one field is at fault."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from None
    if _refused.search(body):
        _refuse_fields(body)
    _check_together(request)
    return request


def _check_together(request: ChatRequest) -> None:
    """What no single field tells."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options is only allowed with stream=true.", param="stream_options")
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs is only allowed with logprobs=true.", param="top_logprobs")
    for number, message in enumerate(request.messages):
        if message.role == "tool" and not message.tool_call_id:
            raise InvalidRequest(
                "A message of role 'tool' needs a tool_call_id.",
                param=f"messages[{number}].tool_call_id",
                code="missing_required_parameter",
            )
        if message.content is None and message.role in ("system", "developer", "user", "tool"):
            raise InvalidRequest(
                f"A message of role {message.role!r} needs content.",
                param=f"messages[{number}].content",
                code="missing_required_parameter",
            )
        if isinstance(message.content, list):
            _check_parts(message.content, number)
    for number, tool in enumerate(request.tools or ()):
        if isinstance(tool.function, _Function) and tool.function.parameters is not None:
            check_schema(tool.function.parameters, f"tools[{number}].function.parameters")
    if request.response_format is not None and request.response_format.type == "json_schema":
        wanted = request.response_format.json_schema
        if not isinstance(wanted, _JsonSchema) or wanted.schema is None:
            raise InvalidRequest(
                "response_format json_schema needs json_schema.schema.",
                param="response_format.json_schema",
                code="missing_required_parameter",
            )
        check_schema(wanted.schema, "response_format.json_schema.schema")


def _check_parts(parts: list[_Part], number: int) -> None:
    for place, part in enumerate(parts):
        if isinstance(part.image_url, _ImageUrl) and not _reachable_from_outside(part.image_url.url):
            raise InvalidRequest(
                "An image's address is https:, http: or data:, and not one inside this network.",
                param=f"messages[{number}].content[{place}].image_url",
            )


def _reachable_from_outside(url: str) -> bool:
    """Whether an image's address may be passed on. We never fetch it, nor shall a provider be sent to our side."""
    if url[:5].lower() == "data:":
        return True
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    if (
        parts.scheme not in ("http", "https")
        or not host
        or host == "localhost"
        or host.endswith((".localhost", ".local", ".internal"))
    ):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        # Numbers in other notations (decimal, hexadecimal, octal, shortened) are addresses too.
        return re.fullmatch(r"[0-9a-fx.]*\d", host) is None or re.search(r"[g-wyz]", host) is not None


def _refuse_fields(body: bytes) -> None:
    top = _top_level.decode(body)
    for name in REFUSED_FIELDS:
        if name in top:
            raise InvalidRequest(f"{name} cannot be set by a request.", param=name, code="unsupported_parameter")


def _invalid(message: str) -> InvalidRequest:
    """A sentence from msgspec's, which names types and bounds but never the value."""
    path = _PATH.search(message)
    where = path[1] if path else ""
    missing = _FIELD.search(message)
    # An enumeration's message quotes the value, which may be anything and any length.
    sentence = _ENUM.sub("Not one of the allowed values", _PATH.sub("", message))
    if missing:
        param = f"{where}.{missing[1]}" if where else missing[1]
        return InvalidRequest(f"{param} is missing.", param=param, code="missing_required_parameter")
    if not where:
        return InvalidRequest(f"The body must be a JSON object. {sentence}.", param=None)
    return InvalidRequest(f"{where}: {sentence[:1].lower()}{sentence[1:]}.", param=where.replace("[...]", ""))
