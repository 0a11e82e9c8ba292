"""What real processes log: a JSON object in every line, with the documented fields, and nothing that is secret."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests import word_tokenizer
from tests.fake_upstream import Chaos, FakeUpstream
from tests.integration.test_main_job import PUBLIC
from tests.processes import Processes
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Process

PROMPT = "canary-of-a-prompt"
TOKENS_TO_COUNT = 10
"""Of the prompt and two more words: words, hyphens, and the token that begins them."""
KEYS = ("sk-canary-client-0123456789", "canary-upstream-0123456789", "canary-management-0123456789")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LEVELS = ("debug", "info", "warning", "error")
OURS = ("broker", "gateway", "node", "management", "process", "fleet")


def session_of(key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"})


async def ask(gateway: Process, body: Any, key: str = KEYS[0]) -> int:
    async with (
        session_of(key) as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body) as response,
    ):
        await response.read()
        return response.status


async def go_wrong(gateway: Process, upstream: FakeUpstream, model: str) -> None:
    """Requests that end in all ways that a log line may tell of."""

    def body(words: str, **fields: Any) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": f"{PROMPT} {words}"}], **fields}

    async def known() -> bool:
        return await ask(gateway, body("tokens=1")) == 200

    await until(known, within_s=30)
    assert await ask(gateway, body("tokens=2", stream=True)) == 200
    assert await ask(gateway, body("status=400")) == 400
    said = {"error": {"message": f"{PROMPT} {KEYS[1]}", "code": PROMPT}}
    upstream.script.append(Chaos(status=400, body=json.dumps(said).encode()))
    await ask(gateway, body("x"))
    upstream.script.append(Chaos(status=500))
    await ask(gateway, body("tokens=1"))
    upstream.script.append(Chaos(html=True))
    await ask(gateway, body("tokens=1"))
    assert await ask(gateway, {"model": model, "messages": PROMPT}) == 400
    counted = {"prompts": [{"model": model, "prompt": f"{PROMPT} to count"}]}
    async with session_of(KEYS[0]) as session, session.post(f"{gateway.url}/api/v1/token_check", json=counted) as told:
        assert (await told.json())["prompts"][0]["tokenCount"] == TOKENS_TO_COUNT
    assert await ask(gateway, body("tokens=1"), key=f"{KEYS[0]}-wrong") == 401


def lines(*processes: Process) -> list[dict[str, Any]]:
    """The log of processes. Fails for a line that is no JSON object."""
    texts = [text for process in processes for text in process.log.read_text().splitlines()]
    assert texts
    parsed = [json.loads(text) for text in texts]
    assert all(isinstance(line, dict) for line in parsed)
    return parsed


def check(found: list[dict[str, Any]], text: str) -> None:
    for line in found:
        assert list(line)[:3] == ["time", "level", "logger"], line
        assert TIME.fullmatch(line["time"])
        assert line["level"] in LEVELS
        assert line["message"]
        if line["logger"].partition(".")[0] in OURS:
            assert re.fullmatch(r"[a-z_]+", line["action"]), line
    assert {"ready", "stopped"} <= {line.get("action") for line in found}
    assert PROMPT not in text
    assert not any(key in text for key in KEYS)
    assert "canary" not in text


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_every_line_of_one_process_for_all_is_json_without_secrets(tmp_path: Path, level: str) -> None:
    async with FakeUpstream(api_key=KEYS[1]) as upstream, Processes(tmp_path, {}) as processes:
        everything = await processes.everything(**env(upstream, tmp_path), MODEL_NAME="model", LOG_LEVEL=level)
        await go_wrong(everything, upstream, "model")
        assert await everything.stop() == 0
        found = lines(everything)
        check(found, everything.log.read_text())
        retries = [line for line in found if line.get("action") == "upstream_retry"]
        assert retries
        assert all(line["request_id"].startswith("req_") for line in retries)


@pytest.mark.pulsar
async def test_every_line_of_a_role_of_its_own_is_json_without_secrets(tmp_path: Path, pulsar_url: str) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    common = {"PULSAR_URL": pulsar_url, "RES_TOPIC_NAME": f"results-{model}", "MODEL_NAME": model, "LOG_LEVEL": "debug"}
    async with FakeUpstream(api_key=KEYS[1]) as upstream, Processes(tmp_path, common) as processes:
        own = env(upstream, tmp_path)
        roles = await asyncio.gather(processes.gateway(**own), processes.node(**own), processes.management(**own))
        await go_wrong(roles[0], upstream, model)
        for role in roles:
            assert await role.stop() == 0
        check(lines(*roles), "".join(role.log.read_text() for role in roles))


def env(upstream: FakeUpstream, home: Path) -> dict[str, str]:
    return {
        **PUBLIC,
        "API_URL": upstream.url,
        "API_KEY": KEYS[1],
        "TOKENIZER": word_tokenizer.written(home),
        "API_KEYS": f"tester:{KEYS[0]}",
        "MANAGEMENT_KEY": KEYS[2],
        "DATABASE_URL": f"sqlite+aiosqlite:///{home}/ledger.db",
    }
