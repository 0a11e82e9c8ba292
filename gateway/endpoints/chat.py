"""``POST /v1/chat/completions``: what a conversation's request says. ``/api/v1/chat/completions`` is FastChat's form of
it: there, messages may also be one string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from gateway.endpoints.chat_request import NO_TEMPLATE_VALUES, RULES, ChatRequest, FastChatRequest, Message, Part
from gateway.endpoints.endpoint import Asked
from gateway.endpoints.fields import check_stream_options, named, usage_asked
from gateway.endpoints.media_address import reachable_from_outside
from gateway.endpoints.metadata import tags
from gateway.endpoints.reading import BodyReader, JsonValue, lacking
from gateway.endpoints.schema_check import SchemaChecks
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.endpoints.endpoint import Paths
    from wire.request import Endpoint as Name

FASTCHAT_PATH = "/api/v1/chat/completions"
PATHS: Paths = {"/v1/chat/completions": ChatRequest, FASTCHAT_PATH: FastChatRequest}


class _Texted(msgspec.Struct):
    """What is looked at first where messages may be one string."""

    messages: JsonValue = UNSET


_reader = BodyReader(ChatRequest)
_texted = msgspec.json.Decoder(_Texted)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


class ChatCompletions:
    """Answers a conversation."""

    name: Name = "chat/completions"
    paths = PATHS
    rules = RULES
    summary = "Answer a conversation, whole or as a stream"
    streams = True

    def parse(self, body: bytes, path: str) -> Asked:
        """See :class:`gateway.endpoints.endpoint.Endpoint`."""
        rewritten = _with_messages(body) if path == FASTCHAT_PATH else None
        request, whole = _reader.read(body if rewritten is None else rewritten)
        _check_together(request)
        return Asked(
            model=named(request.model),
            stream=bool(request.stream),
            usage_asked=usage_asked(request),
            n=request.n,
            max_tokens=request.max_completion_tokens or request.max_tokens,
            images=_images(request),
            tags=tags(request.metadata),
            plain=_is_plain(request),
            body=whole or rewritten,
        )


def _with_messages(body: bytes) -> bytes | None:
    """The body with its one string as a user's message; None if messages are no string."""
    try:
        text = _texted.decode(body).messages
        if text is UNSET or not bytes(text).startswith(b'"'):
            return None
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the reader says what is wrong
    fields["messages"] = msgspec.Raw(_encoder.encode([{"role": "user", "content": text}]))
    return _encoder.encode(fields)


def _images(request: ChatRequest) -> int:
    parts = (part for each in request.messages if isinstance(each.content, list) for part in each.content)
    return sum(part.image_url is not None for part in parts)


def _is_plain(request: ChatRequest) -> bool:
    formatted = request.response_format is not None and request.response_format.type != "text"
    shaped = request.tools or formatted or request.logprobs or request.is_bound
    return bool(request.stream) and request.n in (None, 1) and not shaped


def _check_together(request: ChatRequest) -> None:
    """What no single field tells."""
    check_stream_options(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs is only allowed with logprobs=true.", param="top_logprobs")
    for name in request.chat_template_kwargs or ():
        if name in NO_TEMPLATE_VALUES:
            param = f"chat_template_kwargs.{name}"
            raise InvalidRequest(f"{param} cannot be set by a request.", param=param, code="unsupported_parameter")
    for number, message in enumerate(request.messages):
        _check_message(message, f"messages[{number}]")
    _check_schemas(request)


def _check_message(message: Message, where: str) -> None:
    if message.role == "tool" and not message.tool_call_id:
        raise lacking("A message of role 'tool' needs a tool_call_id.", f"{where}.tool_call_id")
    if message.content is None and message.role in ("system", "developer", "user", "tool"):
        raise lacking(f"A message of role {message.role!r} needs content.", f"{where}.content")
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
        if tool.function is not None and tool.function.parameters is not UNSET:
            # OpenAI takes null here for a function without parameters.
            checks.check(tool.function.parameters, f"tools[{number}].function.parameters", null=True)
    if request.response_format is not None:
        wanted = request.response_format.json_schema
        if wanted is not None and wanted.schema is not UNSET:
            checks.check(wanted.schema, "response_format.json_schema.schema")
        elif request.response_format.type == "json_schema":
            raise lacking("response_format json_schema needs json_schema.schema.", "response_format.json_schema")


def _check_parts(parts: list[Part], where: str) -> None:
    for place, part in enumerate(parts):
        for name, address in (
            ("image_url", part.image_url),
            ("video_url", part.video_url),
            ("audio_url", part.audio_url),
        ):
            if address is not None and not reachable_from_outside(address.url):
                raise InvalidRequest(
                    "The address of an image, video or sound is https:, http: or data:, and not one inside this "
                    "network. Write a host outside of ASCII in its xn-- form.",
                    param=f"{where}.content[{place}].{name}",
                )
