"""What the HTTP process and the step process say to one another: MessagePack over a pair of sockets, length first."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Sampling(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How the tokens of one request are chosen. Neutral values change nothing."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    logit_bias: dict[int, float] = {}
    top_logprobs: int | None = None
    """How many alternatives to tell of each token; 0 is the token alone, None is no logprobs."""
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    grammar: str | None = None
    """A grammar of llguidance."""
    shown: tuple[int, ...] = ()
    """Special tokens that are a part of the text."""


class Submit(msgspec.Struct, frozen=True, tag="submit", array_like=True):
    """Generate. ``prompt_logprobs`` also for the prompt's own tokens."""

    request: int
    prompt: list[int]
    sampling: Sampling
    choices: int = 1
    prompt_logprobs: bool = False


class Embed(msgspec.Struct, frozen=True, tag="embed", array_like=True):
    """A vector for each input; inputs longer than the context come in chunks, see ``chunks_of``."""

    request: int
    inputs: list[list[int]]


class Cancel(msgspec.Struct, frozen=True, tag="cancel", array_like=True):
    """Nobody waits for that request any more."""

    request: int


Command = Submit | Embed | Cancel


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """A token's logarithmic probability before any sampling setting, and of the most likely ones."""

    token: int
    logprob: float | None
    top: list[tuple[int, float]] = []


class Piece(msgspec.Struct, array_like=True):
    """What a step adds to one choice of a request."""

    request: int
    choice: int
    text: str
    tokens: int
    logprobs: list[Logprob] | None = None
    finish_reason: str | None = None


class Pieces(msgspec.Struct, tag="pieces", array_like=True):
    """All of one step."""

    pieces: list[Piece]


class PromptLogprobs(msgspec.Struct, tag="prompt_logprobs", array_like=True):
    """One for each token of the prompt, the first without a value."""

    request: int
    logprobs: list[Logprob]


class Vectors(msgspec.Struct, tag="vectors", array_like=True):
    """Little-endian float32, one for each input, as the model makes them: of any length."""

    request: int
    vectors: list[bytes]


class Refusal(msgspec.Struct, tag="refusal", array_like=True):
    """This request gets no answer, or no more of it."""

    request: int
    code: str
    message: str
    http_status: int
    param: str | None = None


OVERFLOW = "The model's numbers overflow here. If its dtype is float16, DTYPE=bfloat16 or float32 helps."


def overflown(request: int) -> Refusal:
    """The model's numbers are none: there is nothing to answer with."""
    return Refusal(request, "server_error", OVERFLOW, 500)


class Progress(msgspec.Struct, tag="progress", array_like=True):
    """Not ready yet. ``share`` is 0 to 1."""

    state: str
    sentence: str
    share: float


class Defaults(msgspec.Struct, frozen=True):
    """How tokens are chosen where a request does not say, in its own ranges. Neutral values change nothing."""

    temperature: Annotated[float, Meta(ge=0)] = 1.0
    top_p: Annotated[float, Meta(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 0
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0)] = 1.0


class Ready(msgspec.Struct, tag="ready", array_like=True, kw_only=True):
    """The model answers. ``tokenizer`` is the tokenizers library's JSON: the HTTP process needs no torch."""

    tokenizer: str
    special_tokens: dict[str, str]
    """``bos_token`` and such, as chat templates know them."""
    chat_template: str | None
    tool_template: str | None = None
    """For requests with tools, where there is one of its own for them."""
    context_length: int
    architecture: str
    dtype: str
    device: str
    generates: bool
    embedding_dimensions: int
    vocabulary: int
    max_batch: int
    row_invariant: bool
    defaults: Defaults = Defaults()


class Figures(msgspec.Struct, tag="figures", array_like=True):
    """How busy the steps are."""

    running: int = 0
    waiting: int = 0
    kv_cache_use: float = 0.0
    tokens_per_second: float = 0.0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    out_of_memory: int = 0
    busy_seconds: float = 0.0
    """In which steps were made, since the start."""


class Ended(msgspec.Struct, tag="ended", array_like=True):
    """The step process cannot go on: see :mod:`workernode.local.server.ending`."""

    error: str
    sentence: str


Report = Pieces | PromptLogprobs | Vectors | Refusal | Progress | Ready | Figures | Ended
