"""What makes an answer: the seam between an attempt and whatever runs the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from process.otel import Span
    from wire.request import Endpoint, Request
    from workernode.outcome import Answered, Later, Refused


class EngineUnusable(Exception):
    """The engine cannot start, and will not until someone acts; the sentence says what to do."""


@dataclass(frozen=True)
class EngineDetails:
    """What presence and events tell about an engine."""

    upstream_model: str | None = None
    provider: str | None = None
    endpoints: tuple[Endpoint, ...] = ("chat/completions",)
    modalities: tuple[str, ...] = ("text",)
    context_length: int | None = None
    continues: bool = False
    """Whether it can go on after a text that the client has seen already (``Job.prefix``)."""
    counts: bool = False
    """Whether :meth:`Engine.count` has an answer as a rule."""


@dataclass(frozen=True)
class Job:
    """One request for an engine. ``prefix`` is text that the client has seen already: continue after it."""

    request: Request
    answer_id: str
    """The ``id`` of the answer and all its chunks, the same in every attempt of the request."""
    created_s: int
    """The ``created`` of the answer, Unix seconds, likewise."""
    remaining_s: float
    prefix: str | None = None
    span: Span | None = None
    """The attempt's, for the spans of what the engine calls."""


_ID_PREFIXES: dict[Endpoint, str] = {
    "chat/completions": "chatcmpl-",
    "completions": "cmpl-",
    "embeddings": "embd-",
}


def answer_id(request: Request) -> str:
    """The id of a request's answer, in the form that clients know from its endpoint."""
    return _ID_PREFIXES[request.endpoint] + request.request_id.removeprefix("req_")


class Answer(Protocol):
    """Where an engine writes."""

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        """Pass a part of the answer on, of any size; returns when there is room for more.

        Of a stream: whole JSON chunk objects, each ended by ``\\n``, without the usage chunk unless the client asked
        for it. Of a whole answer: the next bytes of its JSON body. ``text_chars`` is how many characters of generated
        text ``data`` holds: a cancelled answer without figures from its upstream is estimated by it.
        """


class Engine(Protocol):
    """Runs one model. Any number of answers at once: the node bounds them by its slots."""

    @property
    def details(self) -> EngineDetails:
        """What is known of the model; may gain by :meth:`start`."""

    async def start(self) -> None:
        """Return when requests can be answered. Raises :class:`EngineUnusable`."""

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        """Work on one request until its end.

        Cancelling this call stops the work within a second, upstream connection included. Anything it raises that
        is no cancellation counts as a fault of this engine, told to the client as ``server_error``.
        """

    async def count(self, prompts: Sequence[str]) -> list[int] | None:
        """How many tokens each text is as the prompt of a completion, with those that the tokenizer puts around it.

        None where that cannot be told now. Other answers go on meanwhile.
        """

    async def aclose(self) -> None:
        """Let go of everything. Closing twice is harmless."""
