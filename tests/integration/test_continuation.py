"""An engine that can continue is given what the client has seen, and goes on from there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

import workernode.role
from tests.integration.test_main_job import asked, client_of, known
from wire.usage import Usage
from workernode.engine import EngineDetails
from workernode.outcome import Answered

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from tests.in_process import InProcessFleet
    from workernode.engine import Answer, Job

TOKENS = 40
TEXT = "".join(f"t{number} " for number in range(TOKENS))


class ContinuingEngine:
    """Says :data:`TEXT` token by token, after whatever it is told was said already."""

    details = EngineDetails(upstream_model="continuing", continues=True)

    def __init__(self, prefixes: list[str | None], stall_at: int | None) -> None:
        self._prefixes = prefixes
        self._stall_at = stall_at

    async def start(self) -> None: ...

    async def count(self, prompts: Sequence[str]) -> None: ...

    async def aclose(self) -> None: ...

    async def answer(self, job: Job, answer: Answer) -> Answered:
        self._prefixes.append(job.prefix)
        begin = len((job.prefix or "").split())
        for number in range(begin, TOKENS):
            if number == self._stall_at:
                await asyncio.Event().wait()
            await self._say(job, answer, {"content": f"t{number} "}, None)
        await self._say(job, answer, {}, "stop")
        return Answered(Usage(prompt_tokens=1, completion_tokens=TOKENS), "stop")

    async def _say(self, job: Job, answer: Answer, delta: dict[str, str], finish: str | None) -> None:
        chunk = {
            "id": job.answer_id,
            "object": "chat.completion.chunk",
            "created": job.created_s,
            "model": job.request.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
        await answer.write(msgspec.json.encode(chunk) + b"\n", text_chars=len(delta.get("content", "")))


async def test_the_text_that_was_shown_is_handed_to_the_next_node(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes: list[str | None] = []
    stalls: list[int | None] = [15, None]
    monkeypatch.setattr(workernode.role, "_engine", lambda *_: ContinuingEngine(prefixes, stalls.pop(0)))
    gateway = await fleet.gateway()
    first = await fleet.node()
    await known(gateway, first.model)
    text, reasons = "", []
    async with (
        client_of(gateway) as client,
        await client.chat.completions.create(**asked(first.model, "go on"), stream=True) as stream,
    ):
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            reasons.append(chunk.choices[0].finish_reason)
            if text.endswith("t14 "):
                await fleet.node()
                await first.kill()
    assert text == TEXT
    assert reasons.count("stop") == 1
    # One that began by itself within the first moments, before it could be told, handed the request back.
    assert set(prefixes[:-1]) == {None}
    assert prefixes[-1] == "".join(f"t{number} " for number in range(15))
