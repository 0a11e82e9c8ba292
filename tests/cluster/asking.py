"""The client that asks inside the cluster: a program of its own, with no more than the image of the fleet has.

``python asking.py URL MODEL REQUESTS PER_SECOND RETRIES`` begins so many requests at that rate, every second one
streamed, with the key in ``OPENAI_API_KEY``. It says ``{"begun": true}`` after the first answer, which is the one that
all others must equal, and in the end how they fared.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import openai

ANSWER_S = 120.0
TROUBLES_SHOWN = 5


class Asking:
    """What has been asked, and what became of it."""

    def __init__(self, client: openai.AsyncOpenAI, model: str) -> None:
        self._create = client.chat.completions.with_raw_response.create
        self._model = model
        self._expected = ""
        self._ms: list[float] = []
        self._retries = 0
        self._troubles: list[str] = []

    async def first(self) -> None:
        """The answer that all others must equal."""
        self._expected = await self._answer(streamed=False)

    async def one(self, number: int) -> None:
        began = time.monotonic()
        try:
            text = await self._answer(streamed=number % 2 == 1)
        except (openai.OpenAIError, ValueError, OSError) as error:
            self._troubles.append(f"{type(error).__name__}: {error}"[:200])
            return
        if text != self._expected:
            self._troubles.append(f"another answer: {text[:100]!r}")
            return
        self._ms.append(1000 * (time.monotonic() - began))

    def outcome(self) -> dict[str, Any]:
        """Counts; times in milliseconds, of whole answers and whole streams."""
        ms = sorted(self._ms)
        return {
            "asked": len(ms) + len(self._troubles),
            "answered": len(ms),
            "retries": self._retries,
            "p50_ms": round(ms[len(ms) // 2], 1) if ms else None,
            "latest_ms": round(ms[-1], 1) if ms else None,
            "troubles": self._troubles[:TROUBLES_SHOWN],
        }

    async def _answer(self, *, streamed: bool) -> str:
        messages: Any = [{"role": "user", "content": "Hello"}]
        raw = await self._create(model=self._model, messages=messages, stream=streamed)
        self._retries += raw.retries_taken
        answer: Any = raw.parse()
        if not streamed:
            return str(answer.choices[0].message.content)
        parts, ended = [], False
        async for chunk in answer:
            for choice in chunk.choices:
                parts.append(choice.delta.content or "")
                ended = ended or choice.finish_reason is not None
        if not ended:
            raise ValueError("a stream without its end")
        return "".join(parts)


async def main(url: str, model: str, requests: str, per_second: str, retries: str) -> None:
    """Ask, and print two lines."""
    async with openai.AsyncOpenAI(base_url=url, max_retries=int(retries), timeout=ANSWER_S) as client:
        asking = Asking(client, model)
        await asking.first()
        print(json.dumps({"begun": True}), flush=True)
        loop = asyncio.get_running_loop()
        began = loop.time()
        tasks = []
        for number in range(int(requests)):
            await asyncio.sleep(began + number / float(per_second) - loop.time())
            tasks.append(loop.create_task(asking.one(number)))
        await asyncio.gather(*tasks)
        print(json.dumps(asking.outcome()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
