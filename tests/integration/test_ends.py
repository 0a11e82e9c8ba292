"""Every accepted request has exactly one end in the ledger, and only those are charged that shall be."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fake_upstream import FakeUpstream
from tests.integration.test_dead_letters import kill_holders
from tests.integration.test_main_job import PUBLIC, accepted, asked, charges, client_of, known, streamed, whole
from tests.waiting import until
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import InProcessFleet, Running


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


async def get(management: Running, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{management.url}/api/v1/{path}") as response:
        assert response.status == 200
        return await response.json()


async def ends(management: Running, count: int) -> list[dict[str, Any]]:
    """The ends, once there are so many."""

    async def enough() -> list[dict[str, Any]] | None:
        data: list[dict[str, Any]] = (await get(management, "ends?limit=1000"))["data"]
        return data if len(data) >= count else None

    return await until(enough, within_s=30) or []


async def status_of(gateway: Running, body: dict[str, Any], **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        await response.read()
        return response.status


async def leave_while_it_waits(gateway: Running, model: str, owned: int) -> None:
    async with client_of(gateway) as client:
        waiting = asyncio.ensure_future(whole(client, model, "waits"))
        await accepted(gateway, owned)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def leave_while_it_runs(gateway: Running, model: str) -> None:
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(
            **asked(model, "slow tokens=9999 delay-between=0.01"), stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()


async def test_a_mixed_load_comes_to_one_end_each(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    model, idle = fleet.model, f"{fleet.model}-idle"
    gateway = await fleet.gateway(MODELS=f"{model},{idle}")
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    node = await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, model)
    async with client_of(gateway) as client:
        await asyncio.gather(
            *(whole(client, model, f"w{n} tokens=4") for n in range(3)),
            *(streamed(client, model, f"s{n} tokens=4") for n in range(2)),
        )
    assert [await status_of(gateway, asked(model, f"r{n} status=400")) for n in range(2)] == [400, 400]
    await accepted(gateway, 0)
    await leave_while_it_waits(gateway, idle, 1)
    assert await status_of(gateway, asked(idle, "late"), **{"x-request-timeout-ms": "200"}) == 504
    await leave_while_it_runs(gateway, model)
    await until(lambda: upstream.running == 0)
    # Refused before they were accepted: no requests of anybody, and no ends.
    assert await status_of(gateway, asked("nobody-serves-this", "x")) == 404
    assert await status_of(gateway, {"model": model}) == 400

    upstream.script = ["hang"] * 3
    poison = asyncio.ensure_future(status_of(gateway, asked(model, "poison")))
    await kill_holders(fleet, upstream, node, len(upstream.requests))
    assert await poison == 500

    expected = {"answered": 5, "failed": 2, "cancelled": 2, "expired": 1, "dead": 1}
    assert Counter(end["status"] for end in await ends(management, 11)) == expected
    # What waits is settled without being run, and that is no other end.
    await fleet.node(**PUBLIC, API_URL=upstream.url, MODEL_NAME=idle)
    ran = len(upstream.requests)
    await accepted(gateway, 0)
    assert len(upstream.requests) == ran
    await gateway.end()

    async def refusals() -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = (await get(management, "events?type=gateway.refusals"))["data"]
        return data

    (told,) = await until(refusals)
    assert told["event"]["data"]["refused"] == {"404": 1, "400": 1}
    found = await ends(management, 11)
    assert Counter(end["status"] for end in found) == expected
    by_status = {end["request_id"]: end["status"] for end in found}
    charged = await charges(management, 6)
    assert Counter(by_status[charge["request_id"]] for charge in charged) == {"answered": 5, "cancelled": 1}
    for request_id in by_status:
        await one_end_was_told(management, request_id)


async def one_end_was_told(management: Running, request_id: str) -> None:
    """The projection keeps the first of several: there shall not even be two."""
    told = [stored["event"]["type"] for stored in (await get(management, f"requests/{request_id}"))["events"]]
    ends_told = [kind for kind in told if kind != f"{PREFIX}request.cost"]
    assert len(ends_told) == 1, told


async def test_a_gateway_that_leaves_tells_the_end_of_what_it_broke_off(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway(STOP_GRACE_S="0.2", MODELS=fleet.model)
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    running = asyncio.ensure_future(status_of(gateway, asked(fleet.model, "r1 hang")))
    await until(lambda: upstream.running == 1)
    await gateway.end()
    assert await running == 503
    (end,) = await ends(management, 1)
    assert end["status"] == "failed"
    await until(lambda: upstream.aborted == 1)


async def test_a_cancelled_request_whose_node_dies_before_it_charges_has_its_end(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.requests.conversations.INSIST_MAX", 2)
    gateway = await fleet.gateway()
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    node = await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    async with client_of(gateway) as client:
        asking = asyncio.ensure_future(whole(client, fleet.model, "r1 hang"))
        await until(lambda: upstream.running == 1)
        await fleet.node(**PUBLIC, API_URL=upstream.url)
        # Its gateway has not asked for it yet when the client goes: nobody knows that the holder is dead.
        asking.cancel()
        await node.kill()
        await asyncio.gather(asking, return_exceptions=True)
    (end,) = await ends(management, 1)
    assert end["status"] == "cancelled"
    assert (await get(management, "charges"))["data"] == []
    await accepted(gateway, 0)
    assert len(upstream.requests) == 1
