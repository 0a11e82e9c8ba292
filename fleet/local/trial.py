"""One prompt to a model as a node would run it: the same engine, the same supervision."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from process.settings import load
from workernode.local.engine import LocalEngine
from workernode.settings import NodeSettings
from workernode.static.engine import StaticEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wire.request import Endpoint
    from workernode.local.supervisor import Report

PROMPT = "Say hello in one short sentence."
TOKENS_MAX = 24
QUESTIONS: dict[Endpoint, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS_MAX},
    "completions": {"prompt": PROMPT, "max_tokens": TOKENS_MAX},
    "embeddings": {"input": PROMPT},
}
"""The first that the model serves: one without a chat template takes no chats, an encoder makes vectors only."""
ANSWER_WAIT_S = 300.0


class TrialFailed(Exception):
    """The model did not come up, or did not answer: a sentence."""


def trial(environ: Mapping[str, str], say: Callable[[str], None]) -> str:
    """Start the model, ask it, stop it. Returns what it said, as a sentence. Raises :class:`TrialFailed`."""
    return asyncio.run(_trial(environ, say))


async def _trial(environ: Mapping[str, str], say: Callable[[str], None]) -> str:
    settings = load(NodeSettings, environ)
    engine = LocalEngine(settings, lambda url, key: StaticEngine(url))  # asked directly, so nothing relays
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hear(report: Report) -> None:
        if report.sentence:
            say(report.sentence)
        if report.state == "misconfigured" and not failed.done():
            failed.set_result(report.sentence or "")

    engine.report = hear
    starting = asyncio.ensure_future(engine.start())
    try:
        await asyncio.wait((starting, failed), return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise TrialFailed(failed.result())
        return await _ask(engine, settings.model)
    finally:
        starting.cancel()
        failed.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await engine.aclose()


async def _ask(engine: LocalEngine, model: str) -> str:
    endpoint = next(name for name in QUESTIONS if name in engine.details.endpoints)
    question = {"model": model, **QUESTIONS[endpoint]}
    told: Any = await engine.ask("POST", f"/v1/{endpoint}", question, wait_s=ANSWER_WAIT_S)
    try:
        return _answer(endpoint, told)
    except (TypeError, KeyError, IndexError):
        raise TrialFailed("The model came up, but did not answer a prompt.") from None


def _answer(endpoint: Endpoint, told: Any) -> str:
    if endpoint == "embeddings":
        return f"It makes vectors of {len(told['data'][0]['embedding'])} numbers."
    choice = told["choices"][0]
    return f"It says: {choice['text'] if endpoint == 'completions' else choice['message']['content']!r}"
