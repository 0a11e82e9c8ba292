"""The static responder: answers every request with one fixed text. No key, no GPU: for tests and demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from wire.usage import Usage
from workernode.engine import EngineDetails
from workernode.outcome import Answered

if TYPE_CHECKING:
    from workernode.engine import Answer, Job

CHARS_PER_TOKEN = 4


class StaticEngine:
    """Streams its text word by word, or gives it whole. Counts tokens by length, and says that it did."""

    details = EngineDetails(upstream_model="static", provider="static")

    def __init__(self, text: str) -> None:
        self._text = text
        self._encoder = msgspec.json.Encoder()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def answer(self, job: Job, answer: Answer) -> Answered:
        """Write the fixed text."""
        usage = Usage(
            prompt_tokens=-(-len(job.request.body) // CHARS_PER_TOKEN),
            completion_tokens=-(-len(self._text) // CHARS_PER_TOKEN),
            estimated=True,
        )
        if job.request.stream:
            await self._stream(job, answer, usage)
        else:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": self._text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
            body = self._head(job, "chat.completion") | {"choices": [choice], "usage": _as_openai(usage)}
            await answer.write(self._encoder.encode(body), text_chars=len(self._text))
        return Answered(usage, "stop")

    async def _stream(self, job: Job, answer: Answer, usage: Usage) -> None:
        words = self._text.split(" ")
        texts = [f"{word} " for word in words[:-1]] + words[-1:]
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""},
            *({"content": text} for text in texts),
            {},
        ]
        for number, delta in enumerate(deltas):
            last = number == len(deltas) - 1
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}
            chunk = self._head(job, "chat.completion.chunk") | {"choices": [choice]}
            if job.request.usage_asked:
                chunk["usage"] = None
            await answer.write(self._encoder.encode(chunk) + b"\n", text_chars=len(delta.get("content", "")))
        if job.request.usage_asked:
            chunk = self._head(job, "chat.completion.chunk") | {"choices": [], "usage": _as_openai(usage)}
            await answer.write(self._encoder.encode(chunk) + b"\n")

    def _head(self, job: Job, kind: str) -> dict[str, Any]:
        return {"id": job.answer_id, "object": kind, "created": job.created_s, "model": job.request.model}


def _as_openai(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
