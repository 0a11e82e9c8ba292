"""``POST /v1/chat/completions``: what a request may look like. Declared once, read by msgspec; unknown fields pass.

Facts about fields and ranges are those of OpenAI's published API description.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.schema_check import SchemaChecks
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


JsonValue = msgspec.Raw | UnsetType
"""Any JSON, not yet parsed: Python objects of small values take fifty times the bytes that the client sent."""


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    image_url: _Url | UnsetType = UNSET
    video_url: _Url | UnsetType = UNSET
    audio_url: _Url | UnsetType = UNSET


class _Message(msgspec.Struct):
    role: Role
    content: str | list[_Part] | None = None
    tool_call_id: str | None = None
    tool_calls: JsonValue = UNSET
    function_call: JsonValue = UNSET


class _Function(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    parameters: JsonValue = UNSET


class _Tool(msgspec.Struct):
    type: str
    function: _Function | UnsetType = UNSET


class _JsonSchema(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    schema: JsonValue = UNSET


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


class _Asked(ChatRequest):
    """With the fields that would steer routing or run code somewhere: refused, not dropped, as silence would mislead.

    Declared, so that msgspec finds them under every way in which JSON can spell their names.
    """

    api_base: JsonValue = UNSET
    base_url: JsonValue = UNSET
    api_key: JsonValue = UNSET
    extra_headers: JsonValue = UNSET
    chat_template: JsonValue = UNSET
    trust_remote_code: JsonValue = UNSET
    prompt_embeds: JsonValue = UNSET


def is_plain(request: ChatRequest) -> bool:
    """Whether the answer is one choice of plain text: only such a stream may be continued by another attempt."""
    formatted = request.response_format is not None and request.response_format.type != "text"
    return bool(request.stream) and request.n in (None, 1) and not (request.tools or formatted or request.logprobs)


REFUSED_FIELDS = _Asked.__struct_fields__[len(ChatRequest.__struct_fields__) :]

_decoder = msgspec.json.Decoder(_Asked)
_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""NAT64: IPv4 addresses, private ones too, in IPv6 dress."""
_ENUM = re.compile(r"Invalid enum value .*", re.DOTALL)
_FIELD = re.compile(r"required field `([^`]+)`")


def parse_chat(body: bytes) -> ChatRequest:
    """Read and check a body. Raises :class:`wire.errors.InvalidRequest` with ``param`` where one field is at fault."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into fields that it skips, and some provider would choke on them
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from None
    for name in REFUSED_FIELDS:
        if getattr(request, name) is not UNSET:
            raise InvalidRequest(f"{name} cannot be set by a request.", param=name, code="unsupported_parameter")
    _check_together(request)
    return request


def _check_together(request: ChatRequest) -> None:
    """What no single field tells."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options is only allowed with stream=true.", param="stream_options")
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs is only allowed with logprobs=true.", param="top_logprobs")
    for number, message in enumerate(request.messages):
        _check_message(message, f"messages[{number}]")
    _check_schemas(request)


def _check_message(message: _Message, where: str) -> None:
    if message.role == "tool" and not message.tool_call_id:
        raise _missing("A message of role 'tool' needs a tool_call_id.", f"{where}.tool_call_id")
    if message.content is None and message.role in ("system", "developer", "user", "tool"):
        raise _missing(f"A message of role {message.role!r} needs content.", f"{where}.content")
    if isinstance(message.content, list):
        _check_parts(message.content, where)
    for name, value, begin in (
        ("tool_calls", message.tool_calls, b"["),
        ("function_call", message.function_call, b"{"),
    ):
        if value is not UNSET and not bytes(value).startswith((begin, b"null")):
            raise InvalidRequest(f"{where}.{name} is of the wrong type.", param=f"{where}.{name}")


def _check_schemas(request: ChatRequest) -> None:
    checks = SchemaChecks()
    for number, tool in enumerate(request.tools or ()):
        if tool.function is not UNSET and tool.function.parameters is not UNSET:
            # OpenAI takes null here for a function without parameters.
            checks.check(tool.function.parameters, f"tools[{number}].function.parameters", null=True)
    if request.response_format is not None and request.response_format.type == "json_schema":
        wanted = request.response_format.json_schema
        if wanted is UNSET or wanted.schema is UNSET:
            raise _missing("response_format json_schema needs json_schema.schema.", "response_format.json_schema")
        checks.check(wanted.schema, "response_format.json_schema.schema")


def _missing(sentence: str, param: str) -> InvalidRequest:
    return InvalidRequest(sentence, param=param, code="missing_required_parameter")


def _check_parts(parts: list[_Part], where: str) -> None:
    for place, part in enumerate(parts):
        for name, address in (
            ("image_url", part.image_url),
            ("video_url", part.video_url),
            ("audio_url", part.audio_url),
        ):
            if address is not UNSET and not reachable_from_outside(address.url):
                raise InvalidRequest(
                    "The address of an image, video or sound is https:, http: or data:, and not one inside this "
                    "network. Write a host outside of ASCII in its xn-- form.",
                    param=f"{where}.content[{place}].{name}",
                )


def reachable_from_outside(url: str) -> bool:
    """Whether an address may be passed on. We never fetch it, nor shall a provider be sent to our side.

    Where programs read an address in different ways (backslashes, escapes or other letters in the host, numbers in
    other notations), it is refused: we cannot know which of them the provider uses.
    """
    if url[:5].lower() == "data:":
        return True
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or "\\" in url or not _HOST.fullmatch(host):
        return False
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Whose last label is a number is an IPv4 address, in whatever notation (WHATWG URL, "ends in a number").
        return _NUMBER.fullmatch(host.rpartition(".")[2]) is None
    return address.is_global and not address.is_multicast and address not in _TRANSLATED


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
