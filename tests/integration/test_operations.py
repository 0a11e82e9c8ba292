"""What operators do through management reaches nodes and gateways, holds, and is written down."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import management.fleet.actions
import management.fleet.alerts
from fleet.dead_letters.late_replay import replay
from process.identity import new_request_id
from tests.fake_upstream import FakeUpstream
from tests.in_process import free_port
from tests.integration.test_dead_letters import bury, nothing_left, operator, topics_of
from tests.integration.test_main_job import PUBLIC, asked, charges, known
from tests.processes import Processes
from tests.waiting import until
from wire import codec
from wire.event import PREFIX, Event, RequestData
from wire.order import CancelRequest
from wire.topics import LEDGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import InProcessFleet, Running


class Desk:
    """An operator's."""

    def __init__(self, house: Running, session: aiohttp.ClientSession) -> None:
        self._url = f"{house.url}/api/v1"
        self._session = session

    async def get(self, path: str) -> Any:
        async with self._session.get(f"{self._url}/{path}") as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def act(self, **action: Any) -> tuple[int, Any]:
        async with self._session.post(f"{self._url}/actions", json=action) as response:
            return response.status, await response.json()

    async def done(self, **action: Any) -> Any:
        """Of an action that works."""
        status, shown = await self.act(**action)
        assert (status, shown.get("state")) == (200, "done"), shown
        return shown

    async def states(self) -> list[str]:
        return sorted(node["state"] for node in (await self.get("nodes?gone=0"))["data"])

    async def are(self, *states: str) -> None:
        """Wait until the nodes that are there are in these states."""
        wanted = sorted(states)

        async def so() -> bool:
            return await self.states() == wanted

        await until(so, within_s=15)


@asynccontextmanager
async def desk(house: Running) -> AsyncIterator[Desk]:
    async with aiohttp.ClientSession() as session:
        yield Desk(house, session)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/ledger.db"


def ask(session: aiohttp.ClientSession, gateway: Running, model: str, prompt: str) -> asyncio.Future[tuple[int, Any]]:
    async def answer() -> tuple[int, Any]:
        async with session.post(f"{gateway.url}/v1/chat/completions", json=asked(model, prompt)) as response:
            return response.status, await response.json()

    return asyncio.ensure_future(answer())


async def test_a_paused_model_stays_paused_for_nodes_that_start_later_whichever_management_lives(
    fleet: InProcessFleet, database: str
) -> None:
    first = await fleet.management(database)
    gateway, _ = await fleet.gateway(), await fleet.node()
    await known(gateway, fleet.model)
    async with desk(first) as at, aiohttp.ClientSession() as session:
        await at.are("ready")
        shown = await at.done(action="pause", scope="model", subject=fleet.model, reason="it moves")
        assert shown["by"] == "local"
        await at.are("paused")
        (node,) = (await at.get("nodes?gone=0"))["data"]
        assert node["sentence"] == "Its model is paused by local: it moves"
        assert (node["order"]["order"], node["order"]["scope"]) == ("pause", "model")
        assert node["since_ms"] > 0

        second = await fleet.management(database)
        await first.kill()
    await fleet.node(NODE_NAME="later")
    async with desk(second) as at, aiohttp.ClientSession() as session:
        await at.are("paused", "paused")
        waiting = ask(session, gateway, fleet.model, "hello")

        async def waits() -> Any:
            (model,) = (await at.get("models"))["data"]
            return model if model["waiting"] == 1 else None

        model = await until(waits)
        assert model["oldest_ms"] is not None
        assert (model["ready"], model["states"], model["order"]["by"]) == (0, {"paused": 2}, "local")
        status, refused = await at.act(action="resume", scope="node", subject="later")
        assert (status, refused["error"]["code"]) == (409, "conflict")
        assert not waiting.done()
        await at.done(action="resume", scope="model", subject=fleet.model)
        await at.are("ready", "ready")
        assert (await waiting)[0] == 200

        async def timed() -> Any:
            (model,) = (await at.get("models"))["data"]
            return model if model["samples"] and model["out_per_s"] else None

        model = await until(timed)
        assert (model["waiting"], model["running"], model["oldest_ms"]) == (0, 0, None)
        assert 0 < model["first_token"]["p50_ms"] <= model["total"]["p95_ms"]
        await at.done(action="pause", scope="model", subject=fleet.model)
        await at.done(action="pause", scope="model", subject=fleet.model)  # twice is once
        await at.are("paused", "paused")


async def test_a_paused_node_leaves_work_to_others_and_a_drained_one_leaves(
    fleet: InProcessFleet, database: str
) -> None:
    house = await fleet.management(database)
    gateway, one = await fleet.gateway(), await fleet.node(NODE_NAME="one")
    await fleet.node(NODE_NAME="two")
    await known(gateway, fleet.model)
    async with desk(house) as at, aiohttp.ClientSession() as session:
        await at.are("ready", "ready")
        shown = await at.done(action="pause", scope="node", subject="one")
        await at.are("paused", "ready")
        answers = await asyncio.gather(*(ask(session, gateway, fleet.model, "x") for _ in range(8)))
        assert [status for status, _ in answers] == [200] * 8
        told = await charges(house, 8)
        assert shown["subject"] not in {charge["node"] for charge in told}
        await at.done(action="drain", scope="node", subject="one")
        await asyncio.wait_for(one.task, 15)
        await at.are("ready")
        assert (await at.act(action="resume", scope="node", subject="one"))[0] == 404
        assert (await at.act(action="resume", scope="node", subject=shown["subject"]))[0] == 404
        status, refused = await at.act(action="pause", scope="node", subject=fleet.model)
        assert status == 404
        assert "It is a model: for all of its nodes say scope 'model'" in refused["error"]["message"]
        await at.done(action="drain", scope="model", subject=fleet.model)
        await at.are()
        assert (await at.act(action="drain", scope="model", subject=fleet.model))[0] == 404
        done = (await at.get(f"actions?subject={shown['subject']}"))["data"]
        assert [(each["action"], each["state"]) for each in done] == [
            ("resume", "failed"),
            ("drain", "done"),
            ("pause", "done"),
        ]


async def test_the_only_node_of_a_fleet_in_one_process_leaves_and_the_others_go_on(tmp_path: Path) -> None:
    ports = {"MANAGEMENT_PORT": str(free_port()), "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/ledger.db"}
    async with Processes(tmp_path, {}) as processes, aiohttp.ClientSession() as session:
        fleet = await processes.everything(**ports)
        order = {"action": "drain", "scope": "model", "subject": "static"}
        at_management = f"http://127.0.0.1:{ports['MANAGEMENT_PORT']}/api/v1"

        async def nodes() -> list[Any] | None:
            async with session.get(f"{at_management}/nodes?gone=0") as response:
                found: list[Any] | None = (await response.json())["data"] if response.status == 200 else None
                return found

        async def left() -> bool:
            return await nodes() == []

        await until(nodes)  # management may be ready, and hear the node, a moment after the gateway
        async with session.post(f"{at_management}/actions", json=order) as response:
            assert response.status == 200
        await until(left)
        async with session.get(f"{fleet.url}/readyz") as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "models": 1, "nodes": 0})
        assert await fleet.stop() == 0


async def test_a_cancelled_request_ends_for_its_client_whether_it_waits_or_runs(
    fleet: InProcessFleet, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management.fleet.actions, "CANCEL_S", 2.0)
    house = await fleet.management(database)
    async with FakeUpstream() as upstream, desk(house) as at, aiohttp.ClientSession() as session:
        gateway = await fleet.gateway()
        node = await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="1")
        await known(gateway, node.model)
        async with session.post(
            f"{gateway.url}/v1/chat/completions",
            json={**asked(node.model, "r tokens=500 delay-between=0.05"), "stream": True},
        ) as response:
            runs = response.headers["x-request-id"]
            await until(lambda: upstream.running == 1)
            await at.done(action="pause", scope="model", subject=node.model)  # makes its heartbeat come now
            await at.are("paused")
            (shown,) = (await at.get("nodes?gone=0"))["data"]
            assert [each["request_id"] for each in shown["running"]] == [runs]
            cancelled = await at.done(action="cancel", request_id=runs, reason="too long")
            assert cancelled["outcome"] == "The request has ended: cancelled."
            assert b"request_cancelled" in await response.read()
        await until(lambda: upstream.running == 0)
        (charge,) = await charges(house, 1)
        assert (charge["request_id"], charge["status"]) == (runs, "cancelled")

        answer = ask(session, gateway, node.model, "waits")

        async def accepted() -> str | None:
            told = (await at.get("events?type=gateway.accepted"))["data"]
            ids = {id_ for each in told for id_ in each["event"]["data"]["requests"]} - {runs}
            return ids.pop() if ids else None

        waits = await until(accepted)
        assert (await at.done(action="cancel", request_id=waits))["outcome"].endswith("cancelled.")
        status, told = await answer
        assert (status, told["error"]["code"]) == (410, "request_cancelled")
        assert (await at.act(action="cancel", request_id=waits))[0] == 409

        async with operator(fleet) as broker:
            producer = await broker.producer(topics_of(fleet).orders)
            forged = codec.encode(CancelRequest(sender="nobody", request_id="req_of_nobody"))
            for payload in (b"", b"\x01garbage", forged):
                await producer.send(payload)
        assert (await at.act(action="cancel", request_id="req_of_nobody"))[0] == 404
        (failed, *_) = (await at.get("actions?action=cancel"))["data"]
        assert (failed["state"], failed["by"], failed["subject"]) == ("failed", "local", "req_of_nobody")
        await at.done(action="resume", scope="model", subject=node.model)
        assert (await ask(session, gateway, node.model, "next tokens=1"))[0] == 200


async def dead(fleet: InProcessFleet, at: Desk) -> str:
    """A request with a letter, of which the ledger knows."""
    request_id = new_request_id()
    await bury(fleet, request_id, b"a secret prompt")
    data = RequestData(
        request_id=request_id, endpoint="chat/completions", model=fleet.model, status="dead", message="It is poison."
    )
    event = Event(
        id=f"dead-{request_id}",
        source="/gateways/gone",
        type=f"{PREFIX}request.dead",
        time="2026-03-01T12:00:00Z",
        subject=request_id,
        data=codec.encode_event_data(data),
    )
    async with operator(fleet) as broker:
        await broker.ensure(topics_of(fleet).results, LEDGER)
        producer = await broker.producer(topics_of(fleet).results)
        await producer.send(codec.encode_event(event))

    async def listed() -> bool:
        return request_id in {each["request_id"] for each in (await at.get("dead-letters"))["data"]}

    await until(listed)
    return request_id


async def test_a_dead_letter_is_replayed_or_discarded_once(fleet: InProcessFleet, database: str) -> None:
    two = await fleet.management(database)
    fleet.replay = replay
    one = await fleet.management(database)
    await fleet.node(NODE_TYPE="static", STATIC_ANSWER="hello")
    async with desk(one) as at, desk(two) as beside:
        replayed, discarded = await dead(fleet, at), await dead(fleet, at)
        (model,) = [each for each in (await at.get("models"))["data"] if each["model"] == fleet.model]
        assert model["dead_letters"] == 2
        assert (await beside.act(action="replay", request_id=replayed))[0] == 409  # it has no gateway's part
        done = await at.done(action="replay", request_id=replayed, timeout_s=30)
        assert done["outcome"].startswith("Answered")
        both = await asyncio.gather(*(each.act(action="discard", request_id=discarded) for each in (at, beside)))
        assert sorted(status for status, _ in both) in ([200, 404], [200, 409])
        assert (await at.act(action="discard", request_id=discarded))[0] == 404

        async def gone() -> bool:
            return not (await at.get("dead-letters"))["data"]

        await until(gone)
        assert "secret" not in str(await at.get("actions"))
    (charge,) = await charges(one, 1)
    assert charge["request_id"] == replayed
    await nothing_left(fleet)


@pytest.mark.parametrize("fleet", ["memory"], indirect=True)
async def test_a_refused_key_is_an_alert_until_it_is_taken_again(
    fleet: InProcessFleet, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management.fleet.alerts, "PRESENCE_LOST_S", 0.5)
    async with FakeUpstream(api_key="the-right-key") as upstream:
        house, gateway = await fleet.management(database), await fleet.gateway()
        node = await fleet.node(**PUBLIC, API_URL=upstream.url, API_KEY="the-wrong-key")
        await known(gateway, node.model)
        async with desk(house) as at, aiohttp.ClientSession() as session:
            answer = ask(session, gateway, node.model, "r tokens=1")

            async def raised() -> Any:
                return (await at.get("alerts?open=true"))["data"]

            (alert,) = await until(raised)
            assert (alert["code"], alert["model"]) == ("authentication_failed", node.model)
            assert alert["told"] in ("not yet", "nobody")
            assert "API_KEY" in alert["remedy"]

            async def counted() -> Any:
                found = (await at.get("errors?scope=node"))["data"]
                (shown,) = (await at.get("nodes?gone=0"))["data"]
                return (found, shown["last_error"]) if found and shown["last_error"] else None

            (error,), last = await until(counted)
            assert (error["code"], error["irreversible"]) == ("authentication_failed", True)
            assert error["models"] == [{"name": node.model, "count": error["count"]}]
            assert last["sentence"]
            upstream.api_key = "the-wrong-key"
            assert (await answer)[0] == 200

            async def cleared() -> bool:
                return not (await at.get("alerts?open=true"))["data"]

            await until(cleared, within_s=25)
            assert "the-wrong-key" not in str([await at.get("alerts"), await at.get("errors"), await at.get("nodes")])
