"""Processes die and brokers go away; requests do not."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from openai import APIStatusError, AsyncOpenAI

from tests.fake_upstream import FakeUpstream, oracle_text
from tests.integration.test_main_job import asked, charges, client_of, known, streamed, whole
from tests.processes import Processes
from tests.pulsar_server import PulsarServer
from tests.waiting import until
from wire.topics import LEDGER, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.processes import Process

pytestmark = pytest.mark.pulsar


@pytest.fixture
async def processes(pulsar_url: str, tmp_path: Path) -> AsyncIterator[Processes]:
    run = uuid.uuid4().hex[:8]
    common = {"PULSAR_URL": pulsar_url, "RES_TOPIC_NAME": f"results-{run}", "MODEL_NAME": f"model-{run}"}
    async with Processes(tmp_path, common) as started:
        yield started


@pytest.fixture
def server(tmp_path: Path, pulsar_server: PulsarServer) -> Iterator[PulsarServer]:
    """A broker that a test may kill. The one of the run comes first: it tells where none can be had."""
    home = tmp_path / "broker"
    home.mkdir()
    server = PulsarServer(home)
    server.start()
    yield server
    server.stop()


async def test_a_node_killed_while_it_works_is_replaced_and_the_client_notices_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    async with FakeUpstream() as upstream:
        remote = {"NODE_TYPE": "remote", "API_URL": upstream.url, "UPSTREAM_MODEL": "upstream-model"}
        gateway = await processes.gateway()
        victim = await processes.node(**remote, MAX_PROCESS_NUM="16")
        management = await processes.management(DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        model = processes.model
        await known(gateway, model)
        prompts = [f"r{number} tokens=5" for number in range(16)]
        upstream.script = ["hang"] * 16
        async with client_of(gateway) as client:
            answers = asyncio.gather(
                *((whole if number % 2 else streamed)(client, model, prompt) for number, prompt in enumerate(prompts))
            )
            await until(lambda: upstream.running == 16)
            await processes.node(**remote, MAX_PROCESS_NUM="16")
            killed_at = asyncio.get_running_loop().time()
            victim.kill()
            await until(lambda: len(upstream.requests) == 32, within_s=10)
            took_s = asyncio.get_running_loop().time() - killed_at
            assert await answers == [oracle_text(asked(model, prompt)) for prompt in prompts]
        assert took_s < 2.0
        assert len(await charges(management, 16)) == 16


async def broken_off(processes: Processes, upstream: FakeUpstream, body: dict[str, Any]) -> bytes:
    """What a client sees of a stream whose node is killed after it has shown a part."""
    remote = {"NODE_TYPE": "remote", "API_URL": upstream.url, "UPSTREAM_MODEL": "upstream-model"}
    gateway = await processes.gateway()
    victim = await processes.node(**remote)
    await known(gateway, processes.model)
    seen = b""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json={**body, "stream": True}) as response,
    ):
        async for line in response.content:
            seen += line
            if victim.running and seen.count(b"data: ") >= 10:
                victim.kill()
                await processes.node(**remote)
    return seen


async def test_a_stream_goes_on_elsewhere_when_its_node_dies(processes: Processes, tmp_path: Path) -> None:
    management = await processes.management(DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    async with FakeUpstream() as upstream:
        body = asked(processes.model, "r1 tokens=200 delay-between=0.005")
        seen = await broken_off(processes, upstream, body)
        assert len(upstream.requests) == 2
    events = seen.decode().strip().split("\n\n")
    assert events.pop() == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == oracle_text(body)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks].count("stop") == 1
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks].count("assistant") == 1
    (charge,) = await charges(management, 1)
    assert charge["completion_tokens"] == 201


@pytest.mark.parametrize(
    "beyond", [{"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}], ids=["two choices", "tools"]
)
async def test_a_stream_that_cannot_be_continued_ends_with_an_error(
    processes: Processes, beyond: dict[str, Any]
) -> None:
    async with FakeUpstream() as upstream:
        body = asked(processes.model, "r1 tokens=2000 delay-between=0.005")
        seen = await broken_off(processes, upstream, {**body, **beyond})
    assert b"stream_interrupted" in seen
    assert b"[DONE]" not in seen


@pytest.mark.parametrize("waits", [False, True], ids=["refusing", "waiting"])
async def test_service_returns_by_itself_after_a_broker_restart_under_load(
    waits: bool, tmp_path: Path, server: PulsarServer
) -> None:
    common = {"PULSAR_URL": server.url, "MODEL_NAME": "model"}
    async with FakeUpstream() as upstream, Processes(tmp_path, common) as processes:
        gateway = await processes.gateway(BROKER_WAIT_S="60" if waits else "0")
        await processes.node(NODE_TYPE="remote", API_URL=upstream.url, UPSTREAM_MODEL="upstream-model")
        management = await processes.management(DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await known(gateway, "model")
        answered: list[str] = []
        refused: list[int] = []
        stop = asyncio.Event()

        async def load(worker: int, client: AsyncOpenAI) -> None:
            number = 0
            while not stop.is_set():
                prompt = f"w{worker}n{number} tokens=3"
                number += 1
                try:
                    assert await whole(client, "model", prompt) == oracle_text(asked("model", prompt))
                    answered.append(prompt)
                except APIStatusError as error:
                    refused.append(error.status_code)
                    await asyncio.sleep(0.05)

        async with client_of(gateway) as client:
            workers = [asyncio.ensure_future(load(worker, client)) for worker in range(8)]
            await until(lambda: len(answered) > 50, within_s=20)
            await asyncio.to_thread(server.kill)
            # Those who ask already may all have been stored, and then they wait for the broker.
            workers.append(asyncio.ensure_future(load(len(workers), client)))
            if waits:
                await until(lambda: _holds_and_is_ready(gateway), within_s=20)
            else:
                await until(lambda: len(refused) > 10, within_s=20)
            before = len(answered)
            await asyncio.to_thread(server.start)
            back_at = asyncio.get_running_loop().time()
            await until(lambda: len(answered) > before + 50, within_s=30)
            assert asyncio.get_running_loop().time() - back_at < 20
            stop.set()
            await asyncio.gather(*workers)
        assert set(refused) == (set() if waits else {503})
        found = await charges(management, len(answered), within_s=30)
        assert len({charge["request_id"] for charge in found}) == len(found)


async def test_a_broker_that_comes_back_empty_is_used_again_and_keeps_what_is_charged_from_then_on(
    tmp_path: Path, server: PulsarServer
) -> None:
    """Nobody is started again. Management reads the charges later, and its subscription was gone as well."""
    common = {"PULSAR_URL": server.url, "MODEL_NAME": "model"}
    database = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/ledger.db"}
    async with FakeUpstream() as upstream, Processes(tmp_path, common) as processes:
        gateway = await processes.gateway(BROKER_WAIT_S="60")
        await processes.node(NODE_TYPE="remote", API_URL=upstream.url, UPSTREAM_MODEL="upstream-model")
        management = await processes.management(**database)
        await known(gateway, "model")
        async with client_of(gateway) as client:
            await whole(client, "model", "first tokens=1")
            assert len(await charges(management, 1)) == 1
            management.kill()
            prompts = [f"under-way{number} tokens=40 delay-between=0.3" for number in range(4)]
            answers = [asyncio.ensure_future(streamed(client, "model", prompt)) for prompt in prompts]
            await until(lambda: upstream.running == len(answers))
            await asyncio.to_thread(server.stop)
            prompts += [f"waits{number} tokens=1" for number in range(6)]
            answers += [asyncio.ensure_future(whole(client, "model", prompt)) for prompt in prompts[4:]]
            await asyncio.to_thread(server.start)
            assert await asyncio.gather(*answers) == [oracle_text(asked("model", prompt)) for prompt in prompts]
        assert await asyncio.to_thread(server.subscriptions, Topics().results) == [LEDGER]
        management = await processes.management(**database)
        found = await charges(management, 1 + len(prompts))
        assert len({charge["request_id"] for charge in found}) == len(found) == 1 + len(prompts)


async def _holds_and_is_ready(gateway: Process) -> bool:
    """Whether requests wait for the broker there, and more may come."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{gateway.url}/metrics") as response:
            held = re.search(r"^gateway_requests_held (\S+)$", await response.text(), re.MULTILINE)
        async with session.get(f"{gateway.url}/readyz") as response:
            return held is not None and float(held[1]) > 0 and response.status == 200


async def test_undecodable_bytes_on_every_topic_harm_nobody(
    processes: Processes, pulsar_url: str, tmp_path: Path
) -> None:
    import pickle

    from broker.pulsar import PulsarBroker
    from process.settings import load
    from wire import codec
    from workernode.settings import NodeSettings

    async with FakeUpstream() as upstream:
        gateway = await processes.gateway()
        node = await processes.node(NODE_TYPE="remote", API_URL=upstream.url, UPSTREAM_MODEL="upstream-model")
        management = await processes.management(DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await known(gateway, processes.model)
        topics = load(NodeSettings, processes.common).topics
        broker = PulsarBroker(pulsar_url)
        await broker.connect()
        heard: list[bytes] = []
        await broker.listen(topics.presence, heard.append, waiting_max=100)
        await until(lambda: heard)
        presence = codec.decode_presence(heard[0])
        gateway_id = gateway.log.read_text().split('"gateway": "')[1].split('"')[0]
        rubbish = [
            b"",
            b"\x00",
            b"\x01",
            b"\x01\xff",
            b"\x02" + b"x" * 10,
            pickle.dumps({"kind": "request"}),
            b"{}",
            b"\x01" * 1_000_000,
        ]
        places = [
            topics.requests(processes.model),
            topics.link(gateway_id),
            topics.control(presence.node),
            topics.presence,
            topics.roll_call,
            topics.backlog,
            topics.results,
        ]
        for topic in places:
            producer = await broker.producer(topic)
            for message in rubbish:
                await producer.send(message)
        async with client_of(gateway) as client:
            assert await whole(client, processes.model, "r1 tokens=3") == "r1 t0 t1 t2"
        assert len(await charges(management, 1)) == 1
        assert await node.stop() == 0
        await broker.aclose()
