"""A client hangs up: its request is cancelled, or finished for nobody, as the gateway is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest

from broker.interface import Kind
from broker.memory import MemoryBroker, MemoryServer
from tests.fake_upstream import FakeUpstream, oracle_usage
from tests.in_process import InProcessFleet
from tests.integration.test_admission import figure
from tests.integration.test_ends import ends, get
from tests.integration.test_main_job import PUBLIC, accepted, asked, charges, client_of, known, whole
from tests.raw_http import Connection, post
from tests.waiting import until
from wire.topics import WORKERS, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import Running

PROMPT = "long tokens=150 delay-between=0.01"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


async def hang_up_in_the_middle(gateway: Running, model: str, prompt: str = PROMPT) -> None:
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(**asked(model, prompt), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()


async def test_a_cancelled_answer_is_stopped_within_a_second(fleet: InProcessFleet, upstream: FakeUpstream) -> None:
    gateway = await fleet.gateway(ON_DISCONNECT="finish", ON_DISCONNECT_MODELS=f"{fleet.model}=cancel")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    await hang_up_in_the_middle(gateway, fleet.model, "long tokens=9999 delay-between=0.01")
    await until(lambda: upstream.aborted == 1, within_s=1.0)


async def test_an_answer_that_is_finished_for_nobody_is_charged_as_answered(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway(ON_DISCONNECT="finish")
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    await hang_up_in_the_middle(gateway, fleet.model)
    (charge,) = await charges(management, 1)
    assert charge["status"] == "answered"
    assert charge["completion_tokens"] == oracle_usage(asked(fleet.model, PROMPT))["completion_tokens"]
    assert upstream.answered == 1
    assert upstream.aborted == 0
    (end,) = await ends(management, 1)
    assert end["status"] == "answered"
    await accepted(gateway, 0)


async def test_what_nobody_reads_is_not_kept(fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path) -> None:
    """Far more than the gateway would keep for a client that does not read comes through to its end."""
    gateway = await fleet.gateway(ON_DISCONNECT="finish", STREAM_BUFFER_BYTES_MAX="4096")
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    await hang_up_in_the_middle(gateway, fleet.model, "long tokens=400 delay-between=0.002")
    (charge,) = await charges(management, 1)
    assert charge["status"] == "answered"
    assert charge["answer_bytes"] > 10 * 4096


async def test_a_waiting_request_that_shall_be_finished_runs_once_there_is_a_node(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway(
        MODELS=fleet.model, API_KEYS="team-a:key-of-team-a,team-b:key-of-team-b", ON_DISCONNECT_KEYS="team-a=finish"
    )
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    for number, key in enumerate(("key-of-team-a", "key-of-team-b"), 1):
        async with client_of(gateway) as anybody:
            client = anybody.with_options(api_key=key)
            waiting = asyncio.ensure_future(whole(client, fleet.model, f"{key} tokens=2"))
            await owned(gateway, number)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    found = {end["key_id"]: end["status"] for end in await ends(management, 2)}
    assert found == {"team-a": "answered", "team-b": "cancelled"}
    (charge,) = (await get(management, "charges"))["data"]
    assert charge["key_id"] == "team-a"
    await owned(gateway, 0)
    assert [request.json["messages"][0]["content"] for request in upstream.requests] == ["key-of-team-a tokens=2"]


async def owned(gateway: Running, count: int) -> None:
    """Wait until a gateway that asks for keys owns so many requests."""

    headers = {"authorization": "Bearer key-of-team-a"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def so_many() -> bool:
            async with session.get(f"{gateway.url}/metrics") as response:
                return f"gateway_requests_owned {float(count)}" in await response.text()

        await until(so_many)


@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_request_whose_client_has_gone_waits_for_the_broker_only_if_it_shall_be_finished(policy: str) -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODELS": "model"})
    node = MemoryBroker(server)
    requests = await node.consumer(Topics().requests("model"), WORKERS, Kind.SHARED, from_earliest=True)
    gateway = await fleet.gateway(BROKER_WAIT_S="60", ON_DISCONNECT=policy)

    async def are(held: int, owned: int) -> bool:
        return [await figure(gateway, f"gateway_requests_{name}") for name in ("held", "owned")] == [held, owned]

    server.set_available(False)
    async with Connection(gateway.port) as client:
        client.send(post(asked("model", "hi")))
        await until(lambda: are(1, 1))
        own = client.writer.get_extra_info("sockname")
    await until(lambda: own not in [each.raddr for each in psutil.Process().net_connections("tcp")])
    if policy == "cancel":
        await until(lambda: are(0, 0))
    else:
        assert await are(1, 1)
        server.set_available(True)
        assert await asyncio.wait_for(requests.receive(), 5)
    server.set_available(True)
    await fleet.aclose()
    await node.aclose()
