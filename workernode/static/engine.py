"""The static responder: answers every request with one fixed text. No key, no GPU: for tests and demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from wire.request import Endpoint
from workernode.engine import EngineDetails
from workernode.static.chat import StaticChat
from workernode.static.completions import StaticCompletions
from workernode.static.embeddings import answer_embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workernode.engine import Answer, Job
    from workernode.outcome import Answered, Refused


class StaticEngine:
    """Streams its text word by word, or gives it whole; embeds by hash. Counts tokens by length, and says so."""

    def __init__(
        self, text: str, *, endpoints: tuple[Endpoint, ...] = get_args(Endpoint), context_length: int | None = None
    ) -> None:
        self.details = EngineDetails(
            upstream_model="static", provider="static", endpoints=endpoints, context_length=context_length
        )
        self._chat = StaticChat(text)
        self._completions = StaticCompletions(text)

    async def start(self) -> None:
        """Nothing to prepare."""

    async def count(self, prompts: Sequence[str]) -> None:
        """There is no tokenizer here."""

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused:
        """Write the fixed text, or the vectors."""
        match job.request.endpoint:
            case "chat/completions":
                return await self._chat.answer(job, answer)
            case "completions":
                return await self._completions.answer(job, answer)
            case "embeddings":
                return await answer_embeddings(job, answer)
