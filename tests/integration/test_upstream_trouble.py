"""A node whose provider is in trouble says so once, leaves requests to others, and comes back by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.fake_upstream import FakeUpstream
from tests.integration.test_main_job import PUBLIC, asked, charges, client_of, known, streamed, whole
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.in_process import InProcessFleet, Running


async def told(management: Running) -> list[tuple[str, dict[str, Any]]]:
    """Types and data of events."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{management.url}/api/v1/events?limit=200") as response,
    ):
        stored: list[dict[str, Any]] = (await response.json())["data"]
        return [(each["event"]["type"].removeprefix("io.workernode."), each["event"]["data"]) for each in stored]


async def events(management: Running) -> list[str]:
    """The types of node events."""
    return sorted(kind for kind, _ in await told(management) if kind.startswith("node."))


async def test_a_refused_key_is_told_once_and_recovers_by_itself(fleet: InProcessFleet, tmp_path: Path) -> None:
    async with FakeUpstream(api_key="the-right-key") as upstream:
        gateway = await fleet.gateway()
        node = await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="the-wrong-key")
        management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await known(gateway, node.model)
        async with client_of(gateway) as client, aiohttp.ClientSession() as session:
            waiting = [asyncio.ensure_future(whole(client, node.model, f"r{n} tokens=1")) for n in range(10)]

            async def refused() -> dict[str, Any] | None:
                body = asked(node.model, "later")
                async with session.post(
                    f"{gateway.url}/v1/chat/completions", json=body, headers={"x-request-timeout-ms": "1500"}
                ) as response:
                    return (await response.json())["error"] if response.status == 503 else None

            error = await until(refused)
            assert error["code"] == "model_unavailable"
            assert "API key" in error["message"]
            assert "the-wrong-key" not in str(error)
            async with session.get(f"{node.url}/readyz") as response:
                assert response.status == 200  # a rollout must not get stuck on a provider's state
                assert (await response.json())["state"] == "authentication_failed"

            upstream.api_key = "the-wrong-key"
            assert sorted(await asyncio.gather(*waiting)) == sorted(f"r{n} t0" for n in range(10))
        await charges(management, 10)

        async def recovered() -> bool:
            return "node.recovered" in await events(management)

        await until(recovered)
        assert await events(management) == ["node.authentication_failed", "node.recovered", "node.started"]
        (message,) = [data["message"] for kind, data in await told(management) if kind == "node.authentication_failed"]
        assert "API_KEY_FILE" in message  # what to do
        assert 'It says: "Incorrect API key provided' in message


async def test_a_provider_that_begins_to_answer_is_well_again(fleet: InProcessFleet) -> None:
    """However long the answer takes by which that is found out."""
    async with FakeUpstream(api_key="the-right-key") as upstream:
        gateway = await fleet.gateway()
        node = await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="the-wrong-key")
        await known(gateway, node.model)
        async with client_of(gateway) as client:
            long = asyncio.ensure_future(streamed(client, node.model, "r1 tokens=9 hang-after=4"))
            await until(lambda: upstream.requests)
            upstream.api_key = "the-wrong-key"
            await upstream.until(lambda upstream: upstream.running == 1, within_s=10)
            assert await whole(client, node.model, "r2 tokens=1") == "r2 t0"
            assert not long.done()
            long.cancel()
            await asyncio.gather(long, return_exceptions=True)


async def test_requests_go_to_another_provider_of_the_model_when_one_is_down(
    fleet: InProcessFleet, tmp_path: Path
) -> None:
    async with FakeUpstream() as good, FakeUpstream(api_key="other") as bad:
        gateway = await fleet.gateway()
        management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await fleet.node(**PUBLIC, API_URL=bad.url)
        node = await fleet.node(**PUBLIC, API_URL=good.url.replace("127.0.0.1", "localhost"))
        await known(gateway, node.model)
        async with client_of(gateway) as client:
            answers = await asyncio.gather(*(whole(client, node.model, f"r{n} tokens=1") for n in range(20)))
        assert answers == [f"r{n} t0" for n in range(20)]
        assert good.answered == 20
        await charges(management, 20)
        providers = {kind: data["provider"] for kind, data in await told(management) if "provider" in data}
        assert (providers["request.billed"], providers["node.authentication_failed"]) == ("localhost", "127.0.0.1")
