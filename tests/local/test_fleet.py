"""The model server behind a node: asked through a gateway, killed, and gone on after by another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import psutil
import pytest

import workernode.local.engine
from broker.memory import MemoryBroker, MemoryServer
from fleet.start.environment import complete
from tests.in_process import InProcessFleet
from tests.integration.test_main_job import client_of, known
from tests.raw_http import exchange, post
from tests.waiting import until
from workernode.local.continuing import continued

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.in_process import Running
    from wire.request import Request

MESSAGES: Any = [{"role": "user", "content": "Größe?"}]
ROOT = Path(__file__).parent.parent.parent
START_S = 150.0
LONG = 1200
"""Tokens that take some seconds."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `local.sh --tiny` has prepared and written, as start.sh picks it up."""
    folder = tmp_path_factory.mktemp("prepared")
    argv = [sys.executable, "-m", "fleet", "local", "--tiny", "--no-trial"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LOCAL_PROGRAM": sys.executable}
    subprocess.run(argv, cwd=folder, env=env, check=True, timeout=200)
    return complete({}, folder)


@pytest.fixture
async def fleet(written: dict[str, str]) -> AsyncIterator[InProcessFleet]:
    server = MemoryServer()
    settings = {**written, "DEVICE": "cpu", "RES_TOPIC_NAME": f"results-{uuid.uuid4().hex[:8]}"}
    made = InProcessFleet(lambda: MemoryBroker(server), settings, start_s=START_S)
    yield made
    await made.aclose()
    assert not engines()


def engines() -> list[psutil.Process]:
    """The model servers that this process has started, and their step processes."""
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.status() != psutil.STATUS_ZOMBIE and "workernode.local.server" in " ".join(each.cmdline())
    ]


@pytest.fixture
def prefixes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Request]]:
    """What engines were told to go on after, and the requests that came of it."""
    found: list[tuple[str, Request]] = []

    def noted(request: Request, prefix: str, tokens: list[int] | None) -> Request:
        assert tokens is not None, "our server tells tokens"
        made = continued(request, prefix, tokens)
        found.append((prefix, made))
        return made

    monkeypatch.setattr(workernode.local.engine, "continued", noted)
    return found


def asked(tokens: int, **more: Any) -> dict[str, Any]:
    fields = {"model": "tiny", "messages": MESSAGES, "max_tokens": tokens, "temperature": 0, **more}
    return {**fields, "extra_body": {"ignore_eos": True}}


async def busy(node: Running) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/readyz") as response:
        return int((await response.json())["busy"])


async def read(stream: Any, text: str = "") -> tuple[str, str | None]:
    """The text until the end of the stream, and why it ended."""
    reason, ids = None, set()
    async for chunk in stream:
        ids.add(chunk.id)
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert len(ids) == 1
    return text, reason


async def first_text(stream: Any) -> str:
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            return str(chunk.choices[0].delta.content)
    raise AssertionError("the stream has ended")


@pytest.mark.timeout(300)
async def test_nodes_count_and_an_answer_of_one_that_is_killed_is_finished_by_the_other_where_it_stopped(
    written: dict[str, str], fleet: InProcessFleet, prefixes: list[tuple[str, Request]]
) -> None:
    assert (written["NODE_TYPE"], written["LOCAL_ENGINE"]) == ("local", "transformers")
    gateway = await fleet.gateway()
    nodes = await asyncio.gather(fleet.node(), fleet.node())
    await known(gateway, "tiny")
    await count_exactly(gateway, written["MODEL_PATH"])
    async with client_of(gateway) as client:
        whole = await client.chat.completions.create(**asked(40))
        async with await client.chat.completions.create(**asked(40), stream=True) as stream:
            assert await read(stream) == (whole.choices[0].message.content, "length")

        async with await client.chat.completions.create(**asked(LONG), stream=True) as stream:
            text = await first_text(stream)
            (victim,) = [node for node in nodes if await busy(node)]
            await victim.kill()
            text, reason = await read(stream, text)
        assert reason == "length"
        ((shown, request),) = prefixes
        assert text.startswith(shown)
        # The rest is what the model says after that text, and nothing else.
        async with await client.chat.completions.create(**rest_of(request), stream=True) as stream:
            assert shown + (await read(stream))[0] == text


async def count_exactly(gateway: Running, model_path: str) -> None:
    """Prompts are counted as the model's own tokenizer does it. Not a test: such a fleet takes long to start."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    texts = ["Größe?", "", "the of and 🦙\n" * 4_000]
    asked = {"prompts": [{"model": "tiny", "prompt": text, "max_tokens": 9} for text in texts]}
    answer = await exchange(gateway.port, post(asked, path="/api/v1/token_check"))
    for text, found in zip(texts, json.loads(answer.body)["prompts"], strict=True):
        assert not found["estimated"]
        assert found["tokenCount"] == len(tokenizer(text).input_ids)
        assert found["fits"] == (found["tokenCount"] + 9 <= found["contextLength"])


def rest_of(request: Request) -> dict[str, Any]:
    """The same question to be asked by a client."""
    body: dict[str, Any] = msgspec.json.decode(request.body)
    body.pop("stream", None)
    own = ("continue_final_message", "add_generation_prompt", "ignore_eos")
    extra = {name: body.pop(name) for name in own}
    return {**body, "extra_body": extra}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_engine_whose_steps_are_killed_is_replaced_and_its_requests_are_answered_by_the_next(
    fleet: InProcessFleet, prefixes: list[tuple[str, Request]]
) -> None:
    gateway, _ = await fleet.gateway(), await fleet.node()
    await known(gateway, "tiny")
    (victim,) = [each for each in engines() if "workernode.local.server.steps" in each.cmdline()]
    async with client_of(gateway) as client:
        async with await client.chat.completions.create(**asked(LONG), stream=True) as stream:
            answer = asyncio.ensure_future(client.chat.completions.create(**asked(400, seed=1, top_p=0.9)))
            text = await first_text(stream)
            os.kill(victim.pid, signal.SIGKILL)
            text, reason = await read(stream, text)
        assert reason == "length"
        assert len(prefixes) == 1
        assert text.startswith(prefixes[0][0])
        assert (await answer).choices[0].finish_reason == "length"
    await until(lambda: len(engines()) == 2)
