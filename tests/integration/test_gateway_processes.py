"""A gateway of several processes on one port: real processes on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest
from openai import APIError
from prometheus_client.parser import text_string_to_metric_families

from tests.fake_upstream import FakeUpstream, oracle_text
from tests.integration.test_gateway_leaving import events
from tests.integration.test_main_job import PUBLIC, asked, client_of, streamed, whole
from tests.keys import Keys, bearer
from tests.processes import Process, Processes
from tests.raw_http import Answer, exchange, post
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.redis_server import RedisServer

pytestmark = pytest.mark.pulsar

SLOW = "tokens=200 delay-between=0.02"
ENDLESS = "endless tokens=9999 delay-between=0.02"


@pytest.fixture
async def processes(pulsar_url: str, tmp_path: Path) -> AsyncIterator[Processes]:
    run = uuid.uuid4().hex[:8]
    common = {"PULSAR_URL": pulsar_url, "RES_TOPIC_NAME": f"results-{run}", "MODEL_NAME": f"model-{run}"}
    async with Processes(tmp_path, common) as started:
        yield started


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


async def pair(processes: Processes, upstream: FakeUpstream, **env: str) -> Process:
    """A gateway of two processes, which queue for a model before they know its node; and the node."""
    gateway = await processes.gateway(GATEWAY_PROCESSES="2", MODELS=processes.model, **env)
    await processes.node(**PUBLIC, API_URL=upstream.url)
    return gateway


def children(gateway: Process) -> list[psutil.Process]:
    return psutil.Process(gateway.pid).children()


def clients_of(child: psutil.Process, gateway: Process) -> int:
    """Connections that this process has accepted."""
    return sum(
        each.status == psutil.CONN_ESTABLISHED and bool(each.laddr) and each.laddr.port == gateway.port
        for each in child.net_connections()
    )


async def ask(port: int, key: str, model: str, content: str = "tokens=1") -> Answer:
    """A whole answer for a limited key."""
    body = json.dumps(asked(model, content)).encode()
    return await exchange(port, post(body, *bearer(key), f"content-length: {len(body)}"))


async def figures(gateway: Process, key: str = "") -> Counter[str]:
    """The gateway's figures, those with labels added up; whichever process is asked answers for all."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/metrics", headers=headers) as response:
        text = await response.text()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value  # type: ignore[assignment]
    return found


async def each_on_its_own(gateway: Process, model: str, prompts: list[str]) -> list[str | Exception]:
    """Streams, each by a client of its own, so that none waits for the connection of another."""

    async def one(prompt: str) -> str:
        async with client_of(gateway) as client:
            return await streamed(client, model, prompt)

    return await asyncio.gather(*(one(prompt) for prompt in prompts), return_exceptions=True)  # type: ignore[return-value]


async def half_at_each(
    gateway: Process, model: str, upstream: FakeUpstream, prompts: list[str]
) -> asyncio.Future[list[list[str | Exception]]]:
    """Streams that have begun: whoever is free takes a connection, so the other process is stopped meanwhile."""
    begun = []
    half = len(prompts) // 2
    for other, part in zip(children(gateway), (prompts[:half], prompts[half:]), strict=True):
        running = upstream.running + len(part)
        other.suspend()
        try:
            begun.append(asyncio.ensure_future(each_on_its_own(gateway, model, part)))
            await until(lambda running=running: upstream.running == running, within_s=30)  # type: ignore[misc]
        finally:
            other.resume()
    return asyncio.gather(*begun)


async def test_both_serve_and_count_as_one_and_finish_what_is_open(
    processes: Processes, upstream: FakeUpstream
) -> None:
    gateway = await pair(processes, upstream, STOP_GRACE_S="10")
    model = processes.model
    prompts = [f"r{number} tokens=20" for number in range(30)]
    right = [oracle_text(asked(model, prompt)) for prompt in prompts]
    upstream.may_answer.clear()
    first = await half_at_each(gateway, model, upstream, prompts)
    assert [clients_of(child, gateway) for child in children(gateway)] == [15, 15]
    assert (await figures(gateway))["gateway_requests_open"] == 30
    upstream.may_answer.set()
    assert await first == [right[:15], right[15:]]
    for _ in range(4):  # whoever answers
        counted = await figures(gateway)
        assert (counted["gateway_requests_total"], counted["gateway_first_token_seconds_count"]) == (30, 30)
        assert (counted["gateway_processes"], counted["gateway_nodes"]) == (2, 1)
    # Told to stop, every process finishes what can be finished, and waits no longer than it may.
    endless = [asyncio.ensure_future(events(gateway, model, ENDLESS)) for _ in range(6)]
    await until(lambda: upstream.running == 6)
    upstream.may_answer.clear()
    last = await half_at_each(gateway, model, upstream, prompts)
    stopped = asyncio.ensure_future(gateway.stop(within_s=60.0))
    await until(lambda: gateway.log.read_text().count('"action": "draining"') == 2)
    upstream.may_answer.set()
    assert await last == [right[:15], right[15:]]
    assert await stopped == 0, gateway.log.read_text()[-4000:]
    for each in endless:
        *chunks, end = await each
        assert json.loads(end)["error"]["code"] == "shutting_down"
        assert "[DONE]" not in chunks
    log = gateway.log.read_text()
    assert '"process": 1' in log
    assert '"process": 2' in log


async def test_one_that_is_killed_is_replaced_while_the_other_serves(
    processes: Processes, upstream: FakeUpstream
) -> None:
    gateway = await pair(processes, upstream)
    model = processes.model
    running = asyncio.ensure_future(each_on_its_own(gateway, model, [f"r{number} {SLOW}" for number in range(20)]))
    await until(lambda: upstream.running == 20)
    before = children(gateway)
    doomed = max(before, key=lambda child: clients_of(child, gateway))  # whoever is free takes a connection: maybe all
    lost = clients_of(doomed, gateway)
    await figures(gateway)
    doomed.kill()
    loop = asyncio.get_running_loop()
    killed_at = loop.time()
    served = 0
    async with client_of(gateway) as client:
        while doomed.is_running() or len(children(gateway)) < 2 or (await figures(gateway))["gateway_processes"] < 2:
            assert await whole(client, model, "meanwhile tokens=1") == "meanwhile t0"
            served += 1
            assert loop.time() - killed_at < 30
    assert served > 0
    answers = await running
    broken = [answer for answer in answers if isinstance(answer, Exception)]
    assert len(broken) == lost
    assert lost > 0
    assert not [error for error in broken if not isinstance(error, aiohttp.ClientError | APIError | OSError)], broken
    assert {child.pid for child in children(gateway)} - {child.pid for child in before}
    for _ in range(4):
        counted = await figures(gateway)
        assert counted["gateway_process_restarts_total"] == 1
        assert counted["gateway_requests_total"] >= 20 - lost + served
    assert await each_on_its_own(gateway, model, ["after tokens=1"] * 8) == ["after t0"] * 8


async def test_a_limited_key_has_over_both_what_it_has_at_one(
    processes: Processes, upstream: FakeUpstream, tmp_path: Path, redis_server: RedisServer
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/keys.db")
    several = await keys.create("several", "--concurrent", "4")
    often = await keys.create("often", "--requests-per-min", "9")
    gateway = await pair(processes, upstream, DATABASE_URL=keys.url, LIMITS_STORAGE_URL=redis_server.limits_url)
    asking = [
        asyncio.ensure_future(ask(gateway.port, several, processes.model, content="waits hang")) for _ in range(20)
    ]
    await until(lambda: sum(task.done() for task in asking) == 16)
    refused = [task.result() for task in asking if task.done()]
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(429, "rate_limit_exceeded")}
    await until(lambda: upstream.running == 4)
    # The places of a client that leaves are free again, and so are those of a process that dies.
    asking = [task for task in asking if not task.done()]
    asking.pop().cancel()
    await until(lambda: upstream.running == 3)
    assert (await ask(gateway.port, several, processes.model)).status == 200
    doomed = max(children(gateway), key=lambda child: clients_of(child, gateway))
    doomed.kill()
    await until(lambda: _is_noticed(gateway, often))
    lost = await until(lambda: sum(task.done() for task in asking))
    again = [asyncio.ensure_future(ask(gateway.port, several, processes.model, content="waits hang")) for _ in range(8)]
    await until(lambda: sum(task.done() for task in again) == 8 - 1 - lost)
    answers = await asyncio.gather(*(ask(gateway.port, often, processes.model) for _ in range(30)))
    assert Counter(answer.status for answer in answers) == {200: 9, 429: 21}
    for task in (*asking, *again):
        task.cancel()
    await asyncio.gather(*asking, *again, return_exceptions=True)


async def _is_noticed(gateway: Process, key: str) -> bool:
    return (await figures(gateway, key))["gateway_process_restarts_total"] == 1


async def test_nothing_is_left_of_a_gateway_whose_first_process_is_killed(
    processes: Processes, upstream: FakeUpstream
) -> None:
    gateway = await pair(processes, upstream)
    model = processes.model
    prompts = [f"r{number} {SLOW}" for number in range(6)]
    running = asyncio.ensure_future(each_on_its_own(gateway, model, prompts))
    await until(lambda: upstream.running == 6)
    left = children(gateway)
    os.kill(gateway.pid, signal.SIGKILL)
    await until(lambda: not gateway.running)
    assert await running == [oracle_text(asked(model, prompt)) for prompt in prompts]
    await until(lambda: not any(child.is_running() for child in left), within_s=15)
