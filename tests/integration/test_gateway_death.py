"""A gateway dies: its nodes notice, stop for it, and go on for the others."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fake_upstream import FakeUpstream, oracle_text
from tests.integration.test_main_job import accepted, asked, charges, client_of, known, streamed, whole
from tests.processes import Processes
from tests.waiting import until
from workernode.uplink import GATEWAY_LOST_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.processes import Process

pytestmark = pytest.mark.pulsar


@pytest.fixture
async def processes(pulsar_url: str, tmp_path: Path) -> AsyncIterator[Processes]:
    run = uuid.uuid4().hex[:8]
    common = {"PULSAR_URL": pulsar_url, "RES_TOPIC_NAME": f"results-{run}", "MODEL_NAME": f"model-{run}"}
    async with Processes(tmp_path, common) as started:
        yield started


async def ends(management: Process, kind: str, count: int, within_s: float = 20.0) -> list[dict[str, Any]]:
    """The events of this kind, once there are so many."""
    async with aiohttp.ClientSession() as session:

        async def enough() -> list[dict[str, Any]] | None:
            async with session.get(f"{management.url}/api/v1/events?type={kind}&limit=200") as response:
                found = [stored["event"] for stored in (await response.json())["data"]]
                return found if len(found) >= count else None

        return await until(enough, within_s=within_s) or []


async def abandon(gateway: Process, model: str, prompts: list[str], *, stream: bool) -> list[asyncio.Task[Any]]:
    """Clients whose gateway will die: whatever comes of them does not matter here."""

    async def one(prompt: str) -> None:
        async with client_of(gateway) as client:
            await (streamed if stream else whole)(client, model, prompt)

    return [asyncio.create_task(one(prompt)) for prompt in prompts]


async def test_nodes_stop_for_a_dead_gateway_and_go_on_for_another(processes: Processes, tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        remote = {"NODE_TYPE": "remote", "API_URL": upstream.url, "UPSTREAM_MODEL": "upstream-model"}
        doomed, other = await processes.gateway(), await processes.gateway()
        for _ in range(2):
            await processes.node(**remote)
        management = await processes.management(DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        model = processes.model
        await known(doomed, model)
        await known(other, model)
        # Streams that talk, streams that think, and a whole answer: a node hears of its gateway in every case.
        talking = await abandon(doomed, model, ["a tokens=9999 delay-between=0.05"] * 2, stream=True)
        silent = await abandon(doomed, model, ["b hang-after=3"] * 2, stream=True)
        waiting = await abandon(doomed, model, ["c hang"], stream=False)
        async with client_of(other) as client:
            prompt = "d tokens=330 delay-between=0.03"  # longer than the dead one is waited for
            survivor = asyncio.create_task(streamed(client, model, prompt))
            await until(lambda: upstream.running == 6)
            loop = asyncio.get_running_loop()
            killed_at = loop.time()
            doomed.kill()
            await until(lambda: upstream.aborted == 5, within_s=15)
            took_s = loop.time() - killed_at
            assert await survivor == oracle_text(asked(model, prompt))
            assert await whole(client, model, "next tokens=1") == "next t0"
        await asyncio.gather(*talking, *silent, *waiting, return_exceptions=True)
        assert GATEWAY_LOST_S - 1 < took_s < GATEWAY_LOST_S + 4
        abandoned = await ends(management, "request.abandoned", 5)
        assert len({event["subject"] for event in abandoned}) == len(abandoned) == 5
        assert {event["data"]["status"] for event in abandoned} == {"abandoned"}
        assert len(await charges(management, 2)) == 2
        assert len(upstream.requests) == 7


LEFT = 60


async def test_waiting_requests_of_a_dead_gateway_are_never_run_and_hold_up_nobody_for_long(
    processes: Processes, tmp_path: Path
) -> None:
    async with FakeUpstream() as upstream:
        model = processes.model
        doomed = await processes.gateway(MODELS=model)
        management = await processes.management(DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        clients = await abandon(doomed, model, [f"r{number}" for number in range(LEFT)], stream=False)
        await accepted(doomed, LEFT)
        doomed.kill()
        await asyncio.gather(*clients, return_exceptions=True)
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        await processes.node(
            NODE_TYPE="remote", API_URL=upstream.url, UPSTREAM_MODEL="upstream-model", MAX_PROCESS_NUM="2"
        )
        abandoned = await ends(management, "request.abandoned", LEFT, within_s=60)
        # The first two take the time to be sure of it, all others of the same gateway that of one more look.
        assert loop.time() - begun_at < 4 * GATEWAY_LOST_S
        assert {event["data"]["status"] for event in abandoned} == {"abandoned"}
        living = await processes.gateway()
        await known(living, model)
        async with client_of(living) as client:
            assert await whole(client, model, "next tokens=1") == "next t0"
        assert len(upstream.requests) == 1
        assert len(await charges(management, 1)) == 1


async def test_a_gateway_that_was_only_frozen_hears_that_its_requests_were_dropped(processes: Processes) -> None:
    """Its nodes took it for dead and let go: its clients shall not wait for a deadline that is minutes away."""
    async with FakeUpstream() as upstream:
        gateway = await processes.gateway()
        await processes.node(NODE_TYPE="remote", API_URL=upstream.url, UPSTREAM_MODEL="upstream-model")
        await known(gateway, processes.model)
        url = f"{gateway.url}/v1/chat/completions"
        async with aiohttp.ClientSession() as session:
            asking = asyncio.ensure_future(session.post(url, json=asked(processes.model, "r1 hang")))
            await until(lambda: upstream.running == 1)
            os.killpg(gateway.pid, signal.SIGSTOP)
            try:
                await until(lambda: upstream.aborted == 1, within_s=15)
            finally:
                os.killpg(gateway.pid, signal.SIGCONT)
            response = await asyncio.wait_for(asking, 30)
            assert response.status == 500
            assert response.headers["x-should-retry"] == "true"
            response.close()
        async with client_of(gateway) as client:
            assert await whole(client, processes.model, "next tokens=1") == "next t0"
