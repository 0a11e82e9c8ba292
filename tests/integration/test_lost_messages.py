"""Messages of the link and of control get lost; answers arrive whole, in order and once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import aiohttp
import pytest

from broker.memory import MemoryBroker, MemoryServer
from tests.fake_upstream import FakeUpstream, oracle_text
from tests.in_process import InProcessFleet
from tests.integration.test_main_job import PUBLIC, asked, charges, client_of, known, streamed, whole
from tests.lossy_broker import LossyBroker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(4))
async def test_answers_are_whole_and_charged_once_although_a_fifth_of_all_messages_is_lost(
    seed: int, tmp_path: Path
) -> None:
    server, chance = MemoryServer(), random.Random(seed)
    connections: list[LossyBroker] = []

    def connect() -> LossyBroker:
        connections.append(LossyBroker(MemoryBroker(server), chance, 0.2))
        return connections[-1]

    fleet = InProcessFleet(connect, {"MODEL_NAME": "model"})
    async with FakeUpstream() as upstream:
        gateways = [await fleet.gateway() for _ in range(2)]
        for _ in range(2):
            await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="16")
        management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        clients = [client_of(gateway) for gateway in gateways]
        for gateway in gateways:
            await known(gateway, "model")
        prompts = [f"r{number} tokens={number} delay-between=0.002" for number in range(60)]
        answers = await asyncio.gather(
            *(
                (streamed if number % 3 else whole)(clients[number % 2], "model", prompt)
                for number, prompt in enumerate(prompts)
            )
        )
        assert answers == [oracle_text(asked("model", prompt)) for prompt in prompts]
        assert sum(connection.lost for connection in connections) > 20
        assert len(await charges(management, 60)) == 60
        assert len(upstream.requests) == 60
        for client in clients:
            await client.close()
        await fleet.aclose()


async def test_a_40_mib_answer_arrives_whole_although_messages_are_lost() -> None:
    server, chance = MemoryServer(), random.Random(7)
    fleet = InProcessFleet(lambda: LossyBroker(MemoryBroker(server), chance, 0.05), {"MODEL_NAME": "model"})
    async with FakeUpstream() as upstream:
        gateway = await fleet.gateway()
        await fleet.node(**PUBLIC, API_URL=upstream.url)
        await known(gateway, "model")
        body = asked("model", "big huge=40")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{gateway.url}/v1/chat/completions", json=body) as response,
        ):
            assert response.status == 200
            content = (await response.json())["choices"][0]["message"]["content"]
        assert content == "big t0 t1 t2 t3 t4 t5 t6 t7 " + "x" * (40 * 1024 * 1024)
        await fleet.aclose()
