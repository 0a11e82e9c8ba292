"""What requests may ask, and what follows from it for the steps. Only what changes no text is ignored."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from workernode.local.server.front.problem import Problem, unsupported
from workernode.local.server.words import Sampling

if TYPE_CHECKING:
    from workernode.local.server.words import Ready

T = TypeVar("T", bound=msgspec.Struct)
N = TypeVar("N", int, float)

_WITHOUT_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prediction"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
    | {"best_of", "suffix", "modalities", "verbosity"}
)
"""Fields beside the declared ones that may stand there; some of them only with certain values, see :func:`read`."""
_ONLY = {"modalities": ["text"], "verbosity": "medium", "suffix": ""}

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Choices = Annotated[int, Meta(ge=1, le=128)]


class StreamOptions(msgspec.Struct):
    """How a stream shall look."""

    include_usage: bool | None = None


class Asked(msgspec.Struct, kw_only=True):
    """What all requests for text have in common."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None

    @property
    def usage_asked(self) -> bool:
        """Whether a stream shall end with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Message(msgspec.Struct, omit_defaults=True):
    """One message of a conversation."""

    role: str
    content: Any = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    refusal: Any = None
    function_call: Any = None
    audio: Any = None


class Chat(Asked, kw_only=True):
    """``/v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    reasoning_effort: str | None = None


class Completion(Asked, kw_only=True):
    """``/v1/completions``."""

    prompt: str | list[Any]
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None


class Embedding(msgspec.Struct, kw_only=True):
    """``/v1/embeddings``."""

    input: str | list[Any]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None


class Tokenize(msgspec.Struct, kw_only=True):
    """``/tokenize``."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool = True


_fields = msgspec.json.Decoder(dict[str, Any])


def read(body: bytes, kind: type[T]) -> T:
    """A checked request. Raises :class:`Problem` that names the field."""
    try:
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem("The body is no JSON object.") from None
    known = kind.__struct_fields__
    for name, value in fields.items():
        if value is None:
            continue  # what clients write down that do not use an option
        if name not in known and name not in _WITHOUT_EFFECT:
            raise unsupported(name)
        if name in _ONLY and value != _ONLY[name]:
            raise unsupported(name)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `")
        raise Problem(f"{message}.", param=place.removeprefix("$.").removesuffix("`") or None) from None


def sampling_of(
    asked: Asked,
    *,
    ready: Ready,
    prompt_tokens: int,
    max_tokens: int | None,
    top_logprobs: int | None,
    grammar: str | None,
    seed: int | None,
    shown: tuple[int, ...] = (),
) -> Sampling:
    """The settings of a request whose prompt is that long. Raises :class:`Problem`.

    No maximum means the rest of the context, and more is cut to it; only a prompt that leaves no room is refused. One
    that is to be read alone, with a maximum of nothing, needs none.
    """
    room = ready.context_length - prompt_tokens
    if room < (0 if max_tokens == 0 else 1):
        raise too_long(prompt_tokens, ready.context_length, "messages" if isinstance(asked, Chat) else "prompt")
    defaults = ready.defaults
    chosen_seed = asked.seed if asked.seed is not None else seed
    return Sampling(
        max_tokens=room if max_tokens is None else min(max_tokens, room),
        temperature=_or(asked.temperature, defaults.temperature),
        top_p=_or(asked.top_p, defaults.top_p),
        top_k=max(0, _or(asked.top_k, defaults.top_k)),
        min_p=_or(asked.min_p, defaults.min_p),
        presence_penalty=_or(asked.presence_penalty, 0.0),
        frequency_penalty=_or(asked.frequency_penalty, 0.0),
        repetition_penalty=_or(asked.repetition_penalty, defaults.repetition_penalty),
        seed=chosen_seed if chosen_seed is not None else secrets.randbits(63),
        logit_bias=_bias(asked.logit_bias or {}, ready.vocabulary),
        top_logprobs=top_logprobs,
        stop=_stops(asked.stop),
        ignore_eos=bool(asked.ignore_eos),
        grammar=grammar,
        shown=shown,
    )


def too_long(tokens: int, context: int, param: str) -> Problem:
    """What the request has in that field leaves no room for an answer."""
    return Problem(
        f"This model's maximum context length is {context} tokens. However, your {param} resulted in {tokens} tokens.",
        code="context_length_exceeded",
        param=param,
    )


def _or(value: N | None, default: N) -> N:
    return default if value is None else value


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    return tuple(each for each in stops if each)


def _bias(asked: dict[str, float], vocabulary: int) -> dict[int, float]:
    bias = {}
    for name, value in asked.items():
        if not (name.isascii() and name.isdigit() and len(name) <= 10 and int(name) < vocabulary):
            raise Problem(f"logit_bias names tokens, from 0 to {vocabulary - 1}.", param="logit_bias")
        bias[int(name)] = value
    return bias
