"""Fields that several endpoints have. Facts about fields and ranges are those of OpenAI's published API description."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.endpoints.reading import JsonValue
from wire.errors import InvalidRequest

STOPS_MAX = 16
LOGIT_BIAS_MAX = 1024
MODEL_CHARS_MAX = 256
NULL = msgspec.Raw(b"null")
"""What clients write down that do not use an option."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
User = Annotated[str, Meta(max_length=512)]
ModelName = Annotated[str, Meta(max_length=MODEL_CHARS_MAX)]
"""May be left out, or be empty, where the gateway has a default model."""


class StreamOptions(msgspec.Struct):
    """How a stream shall look."""

    include_usage: bool | None = None


class Generation(msgspec.Struct, kw_only=True):
    """What every request for text may say about how it is made."""

    model: ModelName | UnsetType = UNSET
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Meta(pattern=r"^\d{1,10}$")], Annotated[float, Meta(ge=-100, le=100)]],
            Meta(max_length=LOGIT_BIAS_MAX),
        ]
        | None
    ) = None
    stop: str | Annotated[list[str], Meta(max_length=STOPS_MAX)] | None = None
    user: User | None = None
    metadata: JsonValue = UNSET
    structured_outputs: JsonValue = UNSET
    guided_json: JsonValue = UNSET
    guided_regex: JsonValue = UNSET
    guided_choice: JsonValue = UNSET
    guided_grammar: JsonValue = UNSET
    grammar: JsonValue = UNSET
    json_schema: JsonValue = UNSET

    @property
    def is_bound(self) -> bool:
        """Whether its answer has to obey a form, as engines are told in several ways: none can go on in the middle."""
        ways = (self.structured_outputs, self.guided_json, self.guided_regex, self.guided_choice)
        return any(
            each is not UNSET and each != NULL for each in (*ways, self.guided_grammar, self.grammar, self.json_schema)
        )


def check_stream_options(request: Generation) -> None:
    """Raises :class:`wire.errors.InvalidRequest` for options of a stream that is none."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options is only allowed with stream=true.", param="stream_options")


def usage_asked(request: Generation) -> bool:
    """Whether the client wants the usage chunk at the end of a stream."""
    return bool(request.stream_options and request.stream_options.include_usage)


def named(model: str | UnsetType) -> str | None:
    """The model that a request names, or None."""
    return None if model is UNSET else model
