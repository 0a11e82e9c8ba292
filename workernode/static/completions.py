"""The fixed text as a completion: of each prompt, as many times as asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from workernode.outcome import Answered
from workernode.prompts import prompts_of
from workernode.static.figures import as_openai, estimate, words_of

if TYPE_CHECKING:
    from wire.usage import Usage
    from workernode.engine import Answer, Job


class _Body(msgspec.Struct):
    prompt: Any
    echo: bool | None = None


_body = msgspec.json.Decoder(_Body)


class StaticCompletions:
    """Answers ``completions``. A prompt given as tokens is not echoed: there is no tokenizer here."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._encoder = msgspec.json.Encoder()

    async def answer(self, job: Job, answer: Answer) -> Answered:
        """Write the fixed text once for each choice."""
        body = _body.decode(job.request.body)
        prompts = prompts_of(body.prompt)
        heads = [each if body.echo and isinstance(each, str) else "" for each in prompts]
        starts = [head for head in heads for _ in range(job.request.n or 1)]
        usage = estimate(job.request, text_chars=len(self._text) * len(starts))
        if job.request.stream:
            await self._stream(job, answer, starts, usage)
        else:
            choices = [_choice(index, start + self._text, "stop") for index, start in enumerate(starts)]
            whole = self._head(job) | {"choices": choices, "usage": as_openai(usage)}
            await answer.write(self._encoder.encode(whole), text_chars=len(self._text) * len(starts))
        return Answered(usage, "stop")

    async def _stream(self, job: Job, answer: Answer, starts: list[str], usage: Usage) -> None:
        """The choices go on side by side."""

        async def write(text: str, index: int, finish_reason: str | None, text_chars: int) -> None:
            chunk = self._head(job) | {"choices": [_choice(index, text, finish_reason)]}
            if job.request.usage_asked:
                chunk["usage"] = None
            await answer.write(self._encoder.encode(chunk) + b"\n", text_chars=text_chars)

        for index, start in enumerate(starts):
            if start:
                await write(start, index, None, 0)
        for word in words_of(self._text):
            for index in range(len(starts)):
                await write(word, index, None, len(word))
        for index in range(len(starts)):
            await write("", index, "stop", 0)
        if job.request.usage_asked:
            chunk = self._head(job) | {"choices": [], "usage": as_openai(usage)}
            await answer.write(self._encoder.encode(chunk) + b"\n")

    def _head(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.answer_id,
            "object": "text_completion",
            "created": job.created_s,
            "model": job.request.model,
        }


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}
