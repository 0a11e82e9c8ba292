"""A request that brings down its nodes ends as a dead letter; the others go on; a person decides about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from broker.memory import MemoryBroker
from broker.pulsar import PulsarBroker
from dead_letters.shelf import Shelf, ShelfTaken
from dead_letters.trace import leave_trace, told_of
from fleet.dead_letters.replay import replay
from gateway.requests import conversations
from process.identity import new_request_id, now_ms
from process.settings import load
from tests.fake_upstream import FakeUpstream, oracle_text, oracle_usage
from tests.in_process import InProcessFleet
from tests.integration.test_main_job import PUBLIC, asked, charges, client_of, known, streamed, whole
from tests.waiting import until
from wire.request import Request
from workernode import heartbeat
from workernode.dead_letters import DeadLetters
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.interface import Broker
    from dead_letters.shelf import Held
    from tests.in_process import Running
    from tests.pulsar_server import PulsarServer
    from wire.topics import Topics

POISON = "poison tokens=4"
BEAT_S = 0.5


@pytest.fixture(autouse=True)
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many, so that after a few missing ones a death is certain sooner; a chaos run has the real times."""
    monkeypatch.setattr(heartbeat, "PRESENCE_EVERY_S", BEAT_S)
    monkeypatch.setattr(conversations, "VERIFY_S", 4 * BEAT_S)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@asynccontextmanager
async def operator(fleet: InProcessFleet) -> AsyncIterator[Broker]:
    """A broker connection of an operator's own."""
    broker = fleet._connect()
    await broker.connect()
    yield broker
    await broker.aclose()


def topics_of(fleet: InProcessFleet) -> Topics:
    return load(NodeSettings, fleet._common).topics


async def events(management: Running, request_id: str) -> list[dict[str, Any]]:
    """What the ledger knows of a request, the oldest first."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{management.url}/api/v1/events?request_id={request_id}") as response,
    ):
        data = (await response.json())["data"]
        return [stored["event"] for stored in reversed(data)]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("io.workernode.") for event in found]


async def requested(upstream: FakeUpstream, count: int) -> None:
    await until(lambda: len(upstream.requests) == count, within_s=20)


async def kill_holders(fleet: InProcessFleet, upstream: FakeUpstream, node: Running, begun: int) -> None:
    """Kill whoever works on the one request under way, three times; the last heir lives. ``begun``: requests so far."""
    for death in range(1, 4):
        await requested(upstream, begun + death)
        heir = await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="8")
        await node.kill()
        node = heir


async def poisoned(
    fleet: InProcessFleet, upstream: FakeUpstream, gateway: Running, others: int = 6
) -> tuple[aiohttp.ClientResponse, dict[str, Any], str]:
    """Send one request that three nodes die of, then others; the client's answer to the first, and its request id."""
    model = fleet.model
    upstream.script = ["hang"] * 3
    url = f"{gateway.url}/v1/chat/completions"
    node = await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="8")
    await known(gateway, model)
    async with aiohttp.ClientSession() as session, client_of(gateway) as client:
        poison = asyncio.ensure_future(session.post(url, json=asked(model, POISON)))
        await kill_holders(fleet, upstream, node, 0)
        answers = await asyncio.gather(*(whole(client, model, f"r{n} tokens=3") for n in range(others)))
        assert answers == [oracle_text(asked(model, f"r{n} tokens=3")) for n in range(others)]
        response = await poison
        return response, (await response.json())["error"], response.headers["x-request-id"]


async def letters(fleet: InProcessFleet, request_id: str, count: int = 1) -> list[Held]:
    """The letters of a request, left where they are."""
    async with operator(fleet) as broker:

        async def written() -> list[Held] | None:
            async with Shelf(broker, topics_of(fleet), fleet.model) as shelf:
                found = await shelf.of(request_id)
                return found if len(found) >= count else None

        found: list[Held] = await until(written, within_s=20)
        return found


async def test_a_request_that_kills_three_holders_is_a_dead_letter_and_others_go_on(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway()
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    response, error, request_id = await poisoned(fleet, upstream, gateway)
    assert response.status == 500
    assert response.headers["x-should-retry"] == "false"
    assert error["code"] == "request_poisonous"
    assert [request.json["messages"][0]["content"] for request in upstream.requests].count(POISON) == 3

    (held,) = await letters(fleet, request_id)
    assert held.letter is not None
    assert held.letter.reason == "poison"
    assert b'"poison tokens=4"' in held.letter.request.body
    (again,) = await letters(fleet, request_id)  # looking at it removed nothing
    assert again.letter == held.letter

    await charges(management, 6)
    found = await until(lambda: events(management, request_id))
    assert kinds(found) == ["request.dead"]
    assert found[0]["data"]["status"] == "dead"
    assert fleet.model in found[0]["data"]["message"]
    assert "3 nodes" in found[0]["data"]["message"]
    assert f"fleet dead-letters show {request_id}" in found[0]["data"]["message"]


async def test_a_replayed_letter_is_answered_under_the_same_id_and_charged_once(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway()
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    _, _, request_id = await poisoned(fleet, upstream, gateway, others=0)
    await letters(fleet, request_id)
    async with operator(fleet) as broker, Shelf(broker, topics_of(fleet), fleet.model) as shelf:
        found = await shelf.of(request_id)
        assert found[0].letter is not None
        done = await replay(broker, topics_of(fleet), found[0].letter.request, 30)
        assert done.status == "answered"
        assert done.settled
        assert done.letter_done
        assert b"poison t0 t1 t2 t3" in done.answer
        shelf.remove(found)
    (charge,) = await charges(management, 1)
    assert charge["request_id"] == request_id
    assert charge["status"] == "answered"
    assert charge["completion_tokens"] == oracle_usage(asked(fleet.model, POISON))["completion_tokens"]
    assert kinds(await events(management, request_id)) == ["request.dead", "request.billed"]
    await nothing_left(fleet)


async def test_a_replay_that_kills_three_nodes_more_leaves_one_letter(
    fleet: InProcessFleet, upstream: FakeUpstream
) -> None:
    gateway = await fleet.gateway()
    _, _, request_id = await poisoned(fleet, upstream, gateway, others=0)
    await letters(fleet, request_id)
    async with operator(fleet) as broker, Shelf(broker, topics_of(fleet), fleet.model) as shelf:
        found = await shelf.of(request_id)
        assert found[0].letter is not None
        upstream.script = ["hang"] * 3
        replaying = asyncio.ensure_future(replay(broker, topics_of(fleet), found[0].letter.request, 60))
        await kill_holders(fleet, upstream, fleet._running[-1], 3)
        done = await replaying
        assert done.status == "dead"
        assert done.letter_done
        shelf.remove(found)
    assert len(await letters(fleet, request_id)) == 1


async def test_a_discarded_letter_is_gone_and_the_ledger_knows(
    fleet: InProcessFleet, upstream: FakeUpstream, tmp_path: Path
) -> None:
    gateway = await fleet.gateway()
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    _, _, request_id = await poisoned(fleet, upstream, gateway, others=0)
    await letters(fleet, request_id)
    async with operator(fleet) as broker, Shelf(broker, topics_of(fleet), fleet.model) as shelf:
        found = await shelf.of(request_id)
        assert found[0].letter is not None
        await leave_trace(broker, topics_of(fleet), "request.discarded", told_of(found[0].letter.request, "dead"))
        shelf.remove(found)
    await nothing_left(fleet)

    async def told() -> bool:
        return kinds(await events(management, request_id)) == ["request.dead", "request.discarded"]

    await until(told)


async def nothing_left(fleet: InProcessFleet) -> None:
    async with operator(fleet) as broker, Shelf(broker, topics_of(fleet), fleet.model) as shelf:
        assert [held async for held in shelf.letters()] == []


async def test_a_second_person_is_refused_and_not_shown_half_of_the_letters(fleet: InProcessFleet) -> None:
    async with operator(fleet) as one, operator(fleet) as two:
        async with Shelf(one, topics_of(fleet), fleet.model):
            with pytest.raises(ShelfTaken):
                async with Shelf(two, topics_of(fleet), fleet.model):
                    pass
        async with Shelf(two, topics_of(fleet), fleet.model) as shelf:
            assert [held async for held in shelf.letters()] == []


async def test_three_unloads_count_as_nobodys_death(
    fleet: InProcessFleet, upstream: FakeUpstream, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The topic's messages are delivered again while their holder works: that is no death, and no second answer."""
    gateway = await fleet.gateway()
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    nodes = [await fleet.node(**PUBLIC, API_URL=upstream.url, MAX_PROCESS_NUM="4") for _ in range(2)]
    await known(gateway, fleet.model)
    topic = topics_of(fleet).requests(fleet.model)
    prompt = "long tokens=300 delay-between=0.02"
    async with client_of(gateway) as client:
        answer = asyncio.ensure_future(streamed(client, fleet.model, prompt))
        await until(lambda: upstream.running == 1)
        for _ in range(3):
            await unload(nodes[0].broker, topic, request)
            await until(lambda: parked(nodes), within_s=20)
        assert await answer == oracle_text(asked(fleet.model, prompt))
    assert len(upstream.requests) == 1
    assert len(await charges(management, 1)) == 1


async def parked(nodes: list[Running]) -> bool:
    """Whether a second delivery of the request waits for the first one's end."""
    async with aiohttp.ClientSession() as session:
        for node in nodes:
            async with session.get(f"{node.url}/readyz") as response:
                if (await response.json()).get("parked"):
                    return True
    return False


async def unload(broker: Broker, topic: str, request: pytest.FixtureRequest) -> None:
    if isinstance(broker, MemoryBroker):
        broker.server.unload(topic)
    else:
        assert isinstance(broker, PulsarBroker)
        server: PulsarServer = request.getfixturevalue("pulsar_server")
        await asyncio.to_thread(server.unload, topic)


@pytest.mark.pulsar
async def test_the_commands_show_no_prompt_unasked_replay_a_letter_and_discard_another(
    pulsar_url: str, tmp_path: Path
) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    common = {"RES_TOPIC_NAME": f"results-{model}", "MODEL_NAME": model}
    fleet = InProcessFleet(lambda: PulsarBroker(pulsar_url), common)
    request_id = new_request_id()
    other_id = new_request_id()
    for each in (request_id, other_id):
        await bury(fleet, each, b"a secret prompt")

    async def command(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleet", "dead-letters", *words, "--model", model),
            env={**os.environ, **common, "PULSAR_URL": pulsar_url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    code, listed = await command("list", "--json")
    assert code == 0
    assert [row["request_id"] for row in json.loads(listed)["data"]] == [request_id, other_id]
    assert "secret" not in listed
    assert "secret" not in (await command("show", request_id))[1]
    assert "a secret prompt" in (await command("show", request_id, "--body"))[1]
    assert (await command("show", new_request_id()))[0] == 1

    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await fleet.node(NODE_TYPE="static", STATIC_ANSWER="hello")
    code, told = await command("replay", request_id, "--answer", str(tmp_path / "answer.json"))
    assert (code, "answered" in told, "removed" in told) == (0, True, True), told
    assert b"hello" in (tmp_path / "answer.json").read_bytes()
    assert (await command("discard", other_id))[0] == 0
    assert json.loads((await command("list", "--json"))[1]) == {"data": [], "unreadable": 0}
    (charge,) = await charges(management, 1)
    assert charge["request_id"] == request_id

    async def traced() -> bool:
        discarded = kinds(await events(management, other_id)) == ["request.discarded"]
        return discarded and sorted(kinds(await events(management, request_id))) == [
            "request.billed",
            "request.replayed",
        ]

    await until(traced)
    await fleet.aclose()


async def bury(fleet: InProcessFleet, request_id: str, prompt: bytes) -> None:
    """What a node does with a request that brought down too many of them."""
    at = now_ms()
    request = Request(
        request_id=request_id,
        model=fleet.model,
        endpoint="chat/completions",
        body=b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % prompt,
        gateway="gateway-gone",
        received_ms=at,
        deadline_ms=at,
    )
    async with operator(fleet) as broker:
        await DeadLetters(broker, topics_of(fleet).dead_letters(fleet.model), "node-gone").bury(request)
