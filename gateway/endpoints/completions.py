"""``POST /v1/completions``: text after a text.

Facts about fields and ranges are those of OpenAI's published API description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta

from gateway.endpoints.endpoint import Asked
from gateway.endpoints.fields import NULL, Generation, check_stream_options, named, usage_asked
from gateway.endpoints.metadata import tags
from gateway.endpoints.prompts import Prompts, count
from gateway.endpoints.reading import BodyReader, JsonValue
from gateway.endpoints.rules import REFUSED, STREAM_OPTIONS
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.endpoints.endpoint import Paths
    from gateway.endpoints.rules import Rule
    from wire.request import Endpoint as Name

CHOICES_MAX = 2048
"""Choices of one answer: those of all its prompts together."""


class CompletionRequest(Generation, kw_only=True):
    """The fields our side can judge. Everything else in the body is the node's business, and reaches it untouched."""

    prompt: Prompts
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    response_format: JsonValue = UNSET
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None


class _Format(msgspec.Struct):
    type: str | None = None


PATHS: Paths = {"/v1/completions": CompletionRequest}
RULES: Rule = {"allOf": [REFUSED, STREAM_OPTIONS]}

_reader = BodyReader(CompletionRequest)
_format = msgspec.json.Decoder(_Format)


class Completions:
    """Continues a text."""

    name: Name = "completions"
    paths = PATHS
    rules = RULES
    summary = "Continue one text or several, whole or as a stream"
    streams = True

    def parse(self, body: bytes, path: str) -> Asked:
        """See :class:`gateway.endpoints.endpoint.Endpoint`."""
        request, whole = _reader.read(body)
        prompts = count(request.prompt, "prompt")
        _check_together(request, prompts)
        return Asked(
            model=named(request.model),
            stream=bool(request.stream),
            usage_asked=usage_asked(request),
            n=request.n,
            answers=max(request.n or 1, request.best_of or 1) * prompts,
            max_tokens=request.max_tokens,
            tags=tags(request.metadata),
            plain=_is_plain(request, prompts),
            body=whole,
        )


def _check_together(request: CompletionRequest, prompts: int) -> None:
    """What no single field tells."""
    check_stream_options(request)
    choices = request.n or 1
    if request.best_of is not None and request.best_of < choices:
        raise InvalidRequest("best_of must not be smaller than n.", param="best_of")
    if request.best_of is not None and request.best_of > choices and request.stream:
        raise InvalidRequest(
            "The best of several answers is known only when all are whole: no stream.", param="best_of"
        )
    if prompts * max(choices, request.best_of or 1) > CHOICES_MAX:
        raise InvalidRequest(f"The prompts, each answered n times, make more than {CHOICES_MAX} answers.", param="n")


def _is_plain(request: CompletionRequest, prompts: int) -> bool:
    single = prompts == 1 and request.n in (None, 1)
    shaped = request.echo or request.suffix or request.logprobs is not None or request.is_bound
    return bool(request.stream) and single and not shaped and not _is_formatted(request.response_format)


def _is_formatted(response_format: JsonValue) -> bool:
    if response_format is UNSET or response_format == NULL:
        return False
    try:
        return _format.decode(response_format).type != "text"
    except (msgspec.DecodeError, RecursionError):
        return True
