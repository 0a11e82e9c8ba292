"""Nodes of one key learn together of its limit: requests wait for them or go elsewhere, and nobody hears a 429."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import aiohttp
import pytest

from tests.fake_upstream import FakeUpstream
from tests.integration.test_main_job import PUBLIC, client_of, known, whole
from tests.integration.test_upstream_trouble import events
from tests.simulation.provider_limits import TokenBucket, UsedByOthers, Verdict
from tests.waiting import until
from workernode.remote.allowance import AT_ONCE_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.in_process import InProcessFleet, Running


class UsedUpAtFirst(UsedByOthers):
    """Its times count from the first call."""

    _first: float | None = None

    def call(self, now: float) -> Verdict:
        self._first = now if self._first is None else self._first
        return super().call(now - self._first)


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """The same rules on a faster clock."""
    with (
        patch("workernode.remote.credential.GRACE_S", 0.5),
        patch("workernode.remote.credential.STEADY_S", 1.0),
    ):
        yield


async def state_of(node: Running) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/readyz") as response:
        body: dict[str, Any] = await response.json()
        return body


async def test_three_nodes_of_one_key_answer_a_burst_at_its_limit_and_tell_of_it_once(
    fleet: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may need longer for a refusal than any provider.
    monkeypatch.setattr("workernode.remote.allowance.TAKEN_S", 30.0)
    async with FakeUpstream(api_key="k1") as upstream:
        gateway = await fleet.gateway()
        nodes = [await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="k1") for _ in range(3)]
        management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await known(gateway, nodes[0].model)
        upstream.limiters["k1"] = UsedUpAtFirst(TokenBucket(6000), ((0, 1.5),), wait_s=2.0)
        async with client_of(gateway) as client:
            texts = [f"r{number} tokens=1" for number in range(60)]
            answers = await asyncio.gather(*(whole(client, nodes[0].model, text) for text in texts))
        assert answers == [f"r{number} t0" for number in range(60)]
        assert 0 < upstream.refused <= 3 * AT_ONCE_MIN

        async def recovered() -> bool:
            return "node.recovered" in await events(management)

        await until(recovered)
        assert await events(management) == ["node.rate_limited", "node.recovered", *["node.started"] * 3]
        for node in nodes:
            assert (await state_of(node))["state"] == "ready"


async def test_a_node_with_another_key_takes_over_while_one_is_limited(fleet: InProcessFleet) -> None:
    async with FakeUpstream() as upstream:
        upstream.limiters["k1"] = UsedByOthers(TokenBucket(600), ((0, float("inf")),), wait_s=60.0)
        gateway = await fleet.gateway()
        limited = [await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="k1") for _ in range(2)]
        await known(gateway, limited[0].model)
        async with client_of(gateway) as client:
            waiting = [asyncio.ensure_future(whole(client, limited[0].model, f"r{n} tokens=1")) for n in range(20)]

            async def both_rest() -> bool:
                return all([(await state_of(node))["state"] == "rate_limited" for node in limited])

            await until(both_rest)
            refused = upstream.refused
            await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="k2")
            assert sorted(await asyncio.gather(*waiting)) == sorted(f"r{n} t0" for n in range(20))
        assert upstream.refused == refused
        assert upstream.answered - refused == 20


async def test_a_new_key_in_the_file_is_used_at_once(fleet: InProcessFleet, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old\n")
    async with FakeUpstream(api_key="new") as upstream:
        gateway = await fleet.gateway()
        # Alone it would try again only after a minute.
        with patch("workernode.condition.TRY_AGAIN_S_MIN", 60.0):
            node = await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY_FILE=str(file))
            await known(gateway, node.model)
            async with client_of(gateway) as client:
                waiting = asyncio.ensure_future(whole(client, node.model, "r1 tokens=1"))

                async def out() -> bool:
                    return bool((await state_of(node))["state"] == "authentication_failed")

                await until(out)
                file.write_text("new\n")
                assert await asyncio.wait_for(waiting, 10) == "r1 t0"

            async def well() -> bool:
                return bool((await state_of(node))["state"] == "ready")

            await until(well)


async def test_metrics_show_the_limit_and_what_is_left(fleet: InProcessFleet) -> None:
    async with FakeUpstream() as upstream:
        node = await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="k1", RPM_MAX="90", TPM_MAX="5000")
        async with aiohttp.ClientSession() as session, session.get(f"{node.url}/metrics") as response:
            lines = (await response.text()).splitlines()
    assert 'workernode_allowance_limit{kind="requests"} 90.0' in lines
    assert 'workernode_allowance_limit{kind="tokens"} 5000.0' in lines
    assert "workernode_allowance_nodes 1.0" in lines
    assert "k1" not in "".join(lines)
