"""An engine that does what a test tells it: writes chunks, waits, ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from wire.usage import Usage
from workernode.engine import EngineDetails
from workernode.outcome import Answered, Later, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workernode.engine import Answer, Job

Step = str | bytes | asyncio.Event | Answered | Refused | Later


@dataclass(frozen=True)
class Flood:
    """So many MiB of text, in pieces of 64 KiB."""

    mib: int


class ScriptedEngine:
    """Goes through ``steps`` for every request: a text becomes a chunk, bytes are written as they are, an event is
    waited for, an outcome ends the answer. Without one it ends with :data:`USAGE`."""

    details = EngineDetails(upstream_model="scripted", provider="scripted")

    def __init__(self, *steps: Step | Flood) -> None:
        self.steps = steps
        self.asked = 0
        self.running = 0
        """How many answers are being written at this moment."""

    async def start(self) -> None:
        """Nothing to prepare."""

    async def count(self, prompts: Sequence[str]) -> None:
        """Not known here."""

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        """Go through the steps."""
        self.asked += 1
        self.running += 1
        try:
            for step in self.steps:
                match step:
                    case str():
                        await answer.write(_chunk(job, {"content": step}), text_chars=len(step))
                    case bytes():
                        await answer.write(step)
                    case asyncio.Event():
                        await step.wait()
                    case Flood(mib):
                        for _ in range(mib * 16):
                            await answer.write(_chunk(job, {"content": "x" * 65_000}), text_chars=65_000)
                    case _:
                        return step
            if job.request.usage_asked:
                await answer.write(_chunk(job, None))
            return Answered(USAGE, "stop")
        finally:
            self.running -= 1


USAGE = Usage(prompt_tokens=3, completion_tokens=5)


def _chunk(job: Job, delta: dict[str, Any] | None) -> bytes:
    """A chunk with this delta, or the usage chunk."""
    head: dict[str, Any] = {
        "id": job.answer_id,
        "object": "chat.completion.chunk",
        "created": job.created_s,
        "model": job.request.model,
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}],
    }
    if delta is None:
        head["usage"] = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    elif job.request.usage_asked:
        head["usage"] = None
    return msgspec.json.encode(head) + b"\n"
