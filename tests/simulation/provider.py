"""The provider of a simulated node, without a network between: the oracle of :mod:`tests.chaos.oracle` as an engine."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from tests.chaos.oracle import Execution, chunks, text_of, whole_answer
from tests.fake_upstream import Chaos, oracle_usage
from wire.errors import ErrorBody
from wire.usage import Usage
from workernode.engine import EngineDetails
from workernode.outcome import Answered, Later

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.simulation.life import Life
    from tests.simulation.trace import Trace
    from workernode.engine import Answer, Job

FAILS = 0.01
BUSY = ErrorBody(code="upstream_rate_limited", message="The provider is busy.", http_status=503, retryable=True)
POISON = "poison-marker"
"""A word in a prompt that kills the node whose engine reads it."""


class Provider:
    """Counts the executions of all nodes. ``continues``: its engines go on after a text that they are given."""

    def __init__(self, trace: Trace, random: Random, *, continues: bool) -> None:
        self.executions: dict[str, list[Execution]] = defaultdict(list)
        """By the first word of the prompt, in the order of their beginning."""
        self.killed: dict[str, int] = {}
        """By the first word of a poisonous prompt: how many nodes died of it."""
        self.continues = continues
        self.rough = True
        self.on_later: Callable[[Life], None] = lambda _: None
        """Called when an execution ends without an answer, for another one to follow."""
        self._random = random
        self._count = 0
        self._trace = trace

    def begin(self, prompt: str, life: Life, at: float) -> Execution:
        """One more execution."""
        self._count += 1
        execution = Execution(self._count, life.name, at)
        self.executions[prompt.split()[0]].append(execution)
        self._trace.add(life.name, f"begins execution {execution.number} of {prompt}")
        return execution

    def fails(self, life: Life) -> bool:
        """Whether the provider has had enough, at this moment."""
        if not self.rough or self._random.random() >= FAILS:
            return False
        self.on_later(life)
        return True

    def text(self, body: dict[str, Any], execution: Execution, prefix: str | None) -> str:
        """What an execution says after a prefix: what the one would have said that began with it."""
        if prefix is None:
            return text_of(body, execution.number)
        earlier = self.executions[body["messages"][-1]["content"].split()[0]]
        texts = (text_of(body, each.number) for each in earlier)
        return next(text.removeprefix(prefix) for text in texts if text.startswith(prefix))


class OracleEngine:
    """One for each node."""

    def __init__(self, provider: Provider, life: Life) -> None:
        self.details = EngineDetails(
            upstream_model="oracle", provider="simulated", continues=provider.continues, context_length=4096
        )
        self._provider, self._life = provider, life

    async def start(self) -> None:
        """There is nothing to load."""

    async def count(self, prompts: Sequence[str]) -> None:
        """Not known here."""

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def answer(self, job: Job, answer: Answer) -> Answered | Later:
        """As :mod:`workernode.remote.engine` passes on what the oracle says over HTTP."""
        body = json.loads(job.request.body)
        prompt: str = body["messages"][-1]["content"]
        loop = asyncio.get_running_loop()
        execution = self._provider.begin(prompt, self._life, loop.time())
        if POISON in prompt.split():
            self._provider.killed[prompt.split()[0]] = self._provider.killed.get(prompt.split()[0], 0) + 1
            self._life.die()
        delays = Chaos.of(prompt)
        await asyncio.sleep(delays.delay_first)
        if self._provider.fails(self._life):
            return Later(BUSY)
        if job.request.stream:
            for chunk in self._chunks(body, execution, job.prefix):
                delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
                await answer.write(_line(chunk, job), text_chars=len(delta.get("content") or ""))
                await asyncio.sleep(delays.delay_between)
            if self._provider.fails(self._life):
                return Later(BUSY)
        else:
            whole = whole_answer(body, execution.number)
            text = whole["choices"][0]["message"]["content"]
            await answer.write(_line(whole, job)[:-1], text_chars=len(text))
        execution.ended_at = loop.time()
        return Answered(_usage(body), "stop")

    def _chunks(self, body: dict[str, Any], execution: Execution, prefix: str | None) -> list[dict[str, Any]]:
        found = chunks(body, execution.number)
        if prefix is None:
            return found
        words = [chunk for chunk in found if chunk["choices"] and "content" in chunk["choices"][0]["delta"]]
        rest = {**words[0], "choices": [{**words[0]["choices"][0]}]}
        rest["choices"][0]["delta"] = {"content": self._provider.text(body, execution, prefix)}
        return [rest, *found[len(words) :]]


def _line(chunk: dict[str, Any], job: Job) -> bytes:
    named = {**chunk, "id": job.answer_id, "created": job.created_s, "model": job.request.model}
    return msgspec.json.encode(named) + b"\n"


def _usage(body: dict[str, Any]) -> Usage:
    usage = oracle_usage(body)
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
    )
