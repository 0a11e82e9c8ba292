"""The fixed text as an answer to a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from workernode.outcome import Answered
from workernode.static.figures import as_openai, estimate, words_of

if TYPE_CHECKING:
    from wire.usage import Usage
    from workernode.engine import Answer, Job


class StaticChat:
    """Answers ``chat/completions``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._encoder = msgspec.json.Encoder()

    async def answer(self, job: Job, answer: Answer) -> Answered:
        """Write the fixed text."""
        choices = range(job.request.n or 1)
        usage = estimate(job.request, text_chars=len(self._text) * len(choices))
        if job.request.stream:
            await self._stream(job, answer, choices, usage)
        else:
            message = {"role": "assistant", "content": self._text, "refusal": None}
            whole = [
                {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"} for index in choices
            ]
            body = self._head(job, "chat.completion") | {"choices": whole, "usage": as_openai(usage)}
            await answer.write(self._encoder.encode(body), text_chars=len(self._text) * len(choices))
        return Answered(usage, "stop")

    async def _stream(self, job: Job, answer: Answer, choices: range, usage: Usage) -> None:
        """The choices go on side by side."""
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""},
            *({"content": text} for text in words_of(self._text)),
            {},
        ]
        for number, delta in enumerate(deltas):
            last = number == len(deltas) - 1
            for index in choices:
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}
                chunk = self._head(job, "chat.completion.chunk") | {"choices": [choice]}
                if job.request.usage_asked:
                    chunk["usage"] = None
                await answer.write(self._encoder.encode(chunk) + b"\n", text_chars=len(delta.get("content", "")))
        if job.request.usage_asked:
            chunk = self._head(job, "chat.completion.chunk") | {"choices": [], "usage": as_openai(usage)}
            await answer.write(self._encoder.encode(chunk) + b"\n")

    def _head(self, job: Job, kind: str) -> dict[str, Any]:
        return {"id": job.answer_id, "object": kind, "created": job.created_s, "model": job.request.model}
