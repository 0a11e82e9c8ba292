"""The main job: an OpenAI client asks, a node answers from a real HTTP upstream, and every answer is charged once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from tests.fake_upstream import FakeUpstream, oracle_text, oracle_usage
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import InProcessFleet, Running
    from tests.processes import Process

PUBLIC = {"NODE_TYPE": "remote", "UPSTREAM_MODEL": "upstream-model"}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


def client_of(gateway: Running | Process) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused-here", max_retries=0, timeout=60)


async def known(gateway: Running | Process, model: str) -> None:
    """Wait until a gateway has heard of a model's node."""
    async with aiohttp.ClientSession() as session:

        async def ready() -> bool:
            async with session.get(f"{gateway.url}/v1/models/{model}") as response:
                body = await response.json()
                return response.status == 200 and bool(body["workernode"]["state"] == "ready")

        await until(ready)


async def charges(management: Running | Process, count: int, within_s: float = 20.0) -> list[dict[str, Any]]:
    """The charges, once there are ``count``."""
    async with aiohttp.ClientSession() as session:

        async def enough() -> list[dict[str, Any]] | None:
            async with session.get(f"{management.url}/api/v1/charges?limit=1000") as response:
                data: list[dict[str, Any]] = (await response.json())["data"]
                return data if len(data) >= count else None

        return await until(enough, within_s=within_s) or []


def asked(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}]}


async def whole(client: AsyncOpenAI, model: str, prompt: str) -> str:
    completion = await client.chat.completions.create(**asked(model, prompt))
    assert completion.model == model
    assert completion.choices[0].finish_reason == "stop"
    return completion.choices[0].message.content or ""


async def streamed(client: AsyncOpenAI, model: str, prompt: str) -> str:
    text, ids, reasons = "", set(), []
    async with await client.chat.completions.create(**asked(model, prompt), stream=True) as stream:
        async for chunk in stream:
            ids.add((chunk.id, chunk.created, chunk.model))
            text += chunk.choices[0].delta.content or ""
            reasons += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    assert len(ids) == 1
    assert reasons == ["stop"]
    return text


async def test_200_at_once_over_three_nodes_are_answered_right_and_charged_once(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway()
    nodes = [await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="40") for _ in range(3)]
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    model = nodes[0].model
    await known(gateway, model)
    prompts = [f"r{number} tokens={5 + number % 40}" for number in range(200)]
    async with client_of(gateway) as client:
        answers = await asyncio.gather(
            *((streamed if number % 2 else whole)(client, model, prompt) for number, prompt in enumerate(prompts))
        )
    assert answers == [oracle_text(asked(model, prompt)) for prompt in prompts]

    found = await charges(management, 200)
    assert len({charge["request_id"] for charge in found}) == len(found) == 200
    expected = sum(oracle_usage(asked(model, prompt))["completion_tokens"] for prompt in prompts)
    assert sum(charge["completion_tokens"] for charge in found) == expected
    assert not any(charge["estimated"] for charge in found)
    assert {charge["upstream_model"] for charge in found} == {"upstream-model"}
    assert len({charge["node"] for charge in found}) == 3
    assert all(request.json["model"] == "upstream-model" for request in upstream.requests)


async def test_a_40_mib_answer_arrives_whole(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateway = await fleet.gateway()
    node = await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, node.model)
    body = asked(node.model, "big huge=40")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        answer = await response.json()
    assert len(answer["choices"][0]["message"]["content"]) >= 40 * 1024 * 1024


async def test_two_gateways_share_the_nodes(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateways = [await fleet.gateway() for _ in range(2)]
    nodes = [await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="4") for _ in range(2)]
    model = nodes[0].model
    prompts = [f"r{number} tokens=20" for number in range(60)]
    clients = [client_of(gateway) for gateway in gateways]
    for gateway in gateways:
        await known(gateway, model)
    answers = await asyncio.gather(
        *(streamed(clients[number % 2], model, prompt) for number, prompt in enumerate(prompts))
    )
    assert answers == [oracle_text(asked(model, prompt)) for prompt in prompts]
    for client in clients:
        await client.close()


async def test_50_requests_while_management_is_down_are_50_charges_once_it_is_up(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
    gateway = await fleet.gateway()
    node = await fleet.node(**PUBLIC, API_URL=upstream.url)
    first = await fleet.management(database)
    await known(gateway, node.model)
    async with client_of(gateway) as client:
        await whole(client, node.model, "r0")
        await charges(first, 1)
        await first.end()
        await asyncio.gather(*(whole(client, node.model, f"r{number}") for number in range(1, 51)))
    second = await fleet.management(database)
    assert len(await charges(second, 51)) == 51


async def test_a_request_waits_for_a_node_that_comes_later(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateway = await fleet.gateway(MODELS=fleet.model)
    async with client_of(gateway) as client:
        waiting = asyncio.ensure_future(whole(client, fleet.model, "r7 tokens=3"))
        await fleet.node(**PUBLIC, API_URL=upstream.url)
        assert await asyncio.wait_for(waiting, 15) == "r7 t0 t1 t2"


async def test_a_waiting_request_whose_client_left_is_never_run(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateway = await fleet.gateway(MODELS=fleet.model)
    async with client_of(gateway) as client:
        waiting = asyncio.ensure_future(whole(client, fleet.model, "left tokens=3"))
        await accepted(gateway, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await fleet.node(**PUBLIC, API_URL=upstream.url)
        await known(gateway, fleet.model)
        assert await whole(client, fleet.model, "next tokens=1") == "next t0"
    assert [request.json["messages"][0]["content"] for request in upstream.requests] == ["next tokens=1"]


async def test_a_client_that_leaves_closes_the_upstream_connection_within_a_second(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway()
    node = await fleet.node(**PUBLIC, API_URL=upstream.url)
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await known(gateway, node.model)
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(
            **asked(node.model, "slow tokens=1000 delay-between=0.01"), stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await until(lambda: upstream.aborted == 1, within_s=1.0)
    (charge,) = await charges(management, 1)
    assert charge["status"] == "cancelled"
    assert charge["estimated"]
    assert 0 < charge["completion_tokens"] < 1000


async def accepted(gateway: Running | Process, count: int) -> None:
    """Wait until a gateway owns so many requests."""
    async with aiohttp.ClientSession() as session:

        async def owned() -> bool:
            async with session.get(f"{gateway.url}/metrics") as response:
                return f"gateway_requests_owned {float(count)}" in await response.text()

        await until(owned, within_s=30)


async def test_a_refusal_of_the_upstream_reaches_the_client_in_its_own_words(
    fleet: InProcessFleet, upstream: FakeUpstream
) -> None:
    gateway = await fleet.gateway()
    node = await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, node.model)
    async with aiohttp.ClientSession() as session:
        body = asked(node.model, "r1 status=400")
        async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
            assert response.status == 400
            assert set((await response.json())["error"]) == {"message", "type", "param", "code"}
        async with session.post(
            f"{gateway.url}/v1/chat/completions", json=asked(node.model, "r2 tokens=1")
        ) as response:
            assert response.status == 200


async def test_a_deadline_that_passes_is_a_504_and_nothing_runs_afterwards(
    fleet: InProcessFleet, upstream: FakeUpstream
) -> None:
    gateway = await fleet.gateway(MODELS=fleet.model)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{gateway.url}/v1/chat/completions",
            json=asked(fleet.model, "late"),
            headers={"x-request-timeout-ms": "200"},
        ) as response,
    ):
        assert response.status == 504
        assert response.headers["x-should-retry"] == "false"
        assert (await response.json())["error"]["code"] == "deadline_exceeded"
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    async with client_of(gateway) as client:
        await whole(client, fleet.model, "next tokens=1")
    assert len(upstream.requests) == 1


async def test_draining_a_node_loses_nothing(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateway = await fleet.gateway()
    leaving = await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="8")
    await known(gateway, leaving.model)
    prompts = [f"r{number} tokens=20 delay-between=0.01" for number in range(40)]
    async with client_of(gateway) as client:
        answers = asyncio.gather(*(streamed(client, leaving.model, prompt) for prompt in prompts))
        await until(lambda: upstream.running >= 4)
        await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="8")
        await leaving.end()
        assert await answers == [oracle_text(asked(leaving.model, prompt)) for prompt in prompts]
    assert len(upstream.requests) == 40


async def test_nodes_of_different_models_run_side_by_side(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateway = await fleet.gateway()
    other = f"{fleet.model}/second:latest"
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await fleet.node(NODE_TYPE="static", MODEL_NAME=other, STATIC_ANSWER="fixed")
    await known(gateway, fleet.model)
    await known(gateway, other)
    async with client_of(gateway) as client:
        assert await whole(client, fleet.model, "r1 tokens=1") == "r1 t0"
        assert await whole(client, other, "r2 tokens=1") == "fixed"
        assert {model.id async for model in client.models.list()} >= {fleet.model, other}


async def test_a_node_that_cannot_finish_in_time_hands_its_request_to_another(
    fleet: InProcessFleet, upstream: FakeUpstream
) -> None:
    gateway = await fleet.gateway()
    leaving = await fleet.node(**PUBLIC, API_URL=upstream.url, DRAIN_S="0.2")
    await known(gateway, leaving.model)
    upstream.script = ["hang"]
    async with client_of(gateway) as client:
        answer = asyncio.ensure_future(whole(client, leaving.model, "r1 tokens=2"))
        await until(lambda: upstream.running == 1)
        await fleet.node(**PUBLIC, API_URL=upstream.url)
        await leaving.end()
        assert await answer == "r1 t0 t1"
    assert upstream.aborted == 1
