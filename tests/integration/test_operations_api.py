"""The REST API of actions, errors and alerts: who may act, what is refused, how lists are paged, and the commands."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
from click.testing import CliRunner

import management.fleet.actions
import management.fleet.overseer
from broker.memory import MemoryBroker
from fleet.__main__ import main
from management.api.fleet_answers import ActionsShown, ErrorsShown, ModelsShown
from management.app import BODY_BYTES_MAX
from process.identity import now_ms
from store import database
from store.actions import begin
from store.database import writing
from tests.billing import event, node_event, request_data
from tests.counting_house import CountingHouse
from tests.waiting import until
from wire import codec
from wire.control import ControlMessage, Pause
from wire.presence import NodeState, Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEYS = "alice=operator:key-of-alice,grafana=reader:key-of-grafana"
ALICE = {"authorization": "Bearer key-of-alice"}
GRAFANA = {"authorization": "Bearer key-of-grafana"}
PAUSE = {"action": "pause", "scope": "model", "subject": "small"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    house = CountingHouse(tmp_path)
    yield house
    await house.end()


async def beat(house: CountingHouse, node: str, state: NodeState = "ready", **fields: Any) -> None:
    """A node's heartbeat."""
    told: dict[str, Any] = {"name": "one", "model": "small", "type": "static", "version": "1", "slots": 4}
    heartbeat = Presence(node=node, state=state, sent_ms=now_ms(), started_ms=1, **(told | fields))
    producer = await MemoryBroker(house.server).producer(house.topics.presence)
    await producer.send(codec.encode(heartbeat))


async def act(house: CountingHouse, body: Any = PAUSE, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"http://127.0.0.1:{house.port}/api/v1/actions",
            data=data,
            headers={"content-type": "application/json", **headers},
        ) as response,
    ):
        return response.status, await response.json()


async def test_operators_act_readers_read_and_strangers_do_neither(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEYS=KEYS, MANAGEMENT_KEY="hunter-2")
    assert (await act(house))[0] == 401
    assert (await house.get("/api/v1/actions"))[0] == 401
    status, answer = await act(house, **GRAFANA)
    assert (status, answer["error"]["code"]) == (403, "operator_required")
    assert (await act(house, **ALICE))[0] == 200
    assert (await act(house, authorization="Bearer hunter-2"))[0] == 200
    status, answer = await house.get("/api/v1/actions", **GRAFANA)
    shown = ActionsShown.model_validate(answer, extra="forbid").data
    assert [each.by for each in shown] == ["management", "alice"]


async def test_no_page_of_another_site_acts(house: CountingHouse) -> None:
    await house.start()
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
        {"host": "[::1"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ):
        assert (await act(house, **headers))[0] in (400, 403), headers
    assert (await house.get("/api/v1/actions"))[1]["data"] == []


REFUSED: list[tuple[Any, int, str]] = [
    (b"", 400, "invalid_value"),
    (b"{", 400, "invalid_value"),
    (b"[1]", 400, "invalid_value"),
    (b'{"action":"pause"}', 400, "invalid_value"),
    ({**PAUSE, "action": "explode"}, 400, "invalid_value"),
    ({**PAUSE, "scope": "request"}, 400, "invalid_value"),
    ({**PAUSE, "subject": ""}, 400, "invalid_value"),
    ({**PAUSE, "subject": "a\x00b"}, 400, "invalid_value"),
    ({**PAUSE, "reason": "two\nlines"}, 400, "invalid_value"),
    ({**PAUSE, "extra": 1}, 400, "invalid_value"),
    ({"action": "replay", "request_id": "req_1", "timeout_s": 1e9}, 400, "invalid_value"),
    ({"action": "cancel", "request_id": "x"}, 400, "invalid_value"),
    (b'"' + b"x" * BODY_BYTES_MAX + b'"', 413, "request_too_large"),
    ({**PAUSE, "scope": "node"}, 404, "not_found"),
    ({**PAUSE, "action": "resume"}, 404, "not_found"),
    ({**PAUSE, "action": "drain"}, 404, "not_found"),
    ({"action": "replay", "request_id": "req_1"}, 404, "not_found"),
    ({"action": "discard", "request_id": "req_1"}, 404, "not_found"),
    ({**PAUSE, "subject": "é" * 200}, 404, "not_found"),
]


async def test_what_cannot_be_done_is_said_in_one_shape_and_written_down(house: CountingHouse) -> None:
    await house.start()
    for body, status, code in REFUSED:
        found, answer = await act(house, body)
        assert (found, answer["error"]["code"]) == (status, code), (body, answer)
        assert set(answer["error"]) == {"message", "type", "param", "code"}
    written = (await house.get("/api/v1/actions"))[1]["data"]
    assert [each["state"] for each in written] == ["failed"] * 6  # those that could be read
    assert (await act(house))[0] == 200


async def test_a_name_that_two_nodes_have_is_refused_with_both(house: CountingHouse) -> None:
    await house.start()
    await beat(house, "node-a")
    await beat(house, "node-b")
    status, answer = await act(house, {**PAUSE, "scope": "node", "subject": "one"})
    assert status == 409
    assert "node-a, node-b" in answer["error"]["message"]


async def test_a_node_that_does_not_hear_is_told_again_and_a_forged_name_is_told_nothing(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management.fleet.overseer, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(management.fleet.overseer, "REPEAT_S", 0.2)
    await house.start()
    heard: list[bytes] = []
    outside = MemoryBroker(house.server)
    await outside.listen(house.topics.control("node-deaf"), heard.append, waiting_max=100)
    await beat(house, "node-deaf")
    await beat(house, "../no/topic")
    assert (await act(house, {**PAUSE, "reason": "why"}))[0] == 200
    await until(lambda: len(heard) >= 2)
    message = codec.decode_control(heard[-1])
    assert isinstance(message, ControlMessage)
    assert [codec.decode_word(word) for word in message.words] == [Pause(sentence="Its model is paused by local: why")]
    await beat(house, "node-deaf", "paused")

    async def shown() -> bool:
        (model,) = ModelsShown.model_validate((await house.get("/api/v1/models"))[1], extra="forbid").data
        return model.states == {"paused": 1, "ready": 1} and model.order is not None

    await until(shown)
    await outside.aclose()


async def test_actions_are_paged_and_one_whose_management_died_is_unknown(house: CountingHouse) -> None:
    await house.start()
    for _ in range(5):
        await act(house)
    engine = database.open(house.url)
    row = {"by": "alice", "action": "replay", "scope": "request", "subject": "req_1", "reason": None, "at_ms": 1}
    async with writing(engine) as connection:
        number = await begin(connection, row)
    await engine.dispose()
    assert (await house.get(f"/api/v1/actions/{number}"))[1]["state"] == "unknown"
    assert (await house.get("/api/v1/actions/4711"))[0] == 404
    found, cursor = [], ""
    while True:
        _, answer = await house.get(f"/api/v1/actions?limit=2{cursor}")
        found += [each["action_id"] for each in answer["data"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert found == sorted(found, reverse=True)
    assert len(found) == 6
    assert len((await house.get("/api/v1/actions?by=alice&action=replay"))[1]["data"]) == 1


async def test_errors_are_grouped_filtered_and_paged(house: CountingHouse) -> None:
    told = [
        event(
            f"failed-{number}",
            "request.failed",
            request_data(
                number,
                status="failed",
                error_code=f"code_{'abc'[number % 3]}",
                model=("small", "large")[number % 2],
                key_id=f"key-{number % 2}",
            ),
            time=f"2026-03-0{1 + number % 3}T12:00:{number:02}Z",
        )
        for number in range(30)
    ]
    await house.publish(*told, node_event("n-1", "node.quota_exhausted", message="Add quota."))
    await house.start()
    await house.settled()
    month = "since=2026-03-01&until=2026-03-31"
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        status, answer = await house.get(f"/api/v1/errors?{month}&limit=1{cursor}")
        assert status == 200, answer
        ErrorsShown.model_validate(answer, extra="forbid")
        found += answer["data"]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={quote(answer['next_cursor'])}"
    assert [(each["scope"], each["code"], each["count"]) for each in found] == [
        ("request", "code_c", 10),
        ("request", "code_b", 10),
        ("request", "code_a", 10),
        ("node", "quota_exhausted", 1),
    ]
    assert found[0]["models"] == [{"name": "large", "count": 5}, {"name": "small", "count": 5}]
    assert found[0]["keys"] == [{"name": "key-0", "count": 5}, {"name": "key-1", "count": 5}]
    assert (found[3]["last_message"], found[3]["irreversible"]) == ("Add quota.", True)
    _, answer = await house.get(f"/api/v1/errors?{month}&scope=request&model=large&key_id=key-1")
    assert [each["count"] for each in answer["data"]] == [5, 5, 5]
    assert (await house.get("/api/v1/errors"))[1]["data"] == []  # of the last seven days
    for wrong in ("cursor=x", "cursor=1", "scope=planet", "since=today"):
        assert (await house.get(f"/api/v1/errors?{wrong}"))[0] == 400


async def test_the_commands_act_and_show(house: CountingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management.fleet.actions, "CANCEL_S", 0.5)
    await house.publish(node_event("n-1", "node.unreachable", node="node-a", message="Check API_URL."))
    await house.start(MANAGEMENT_KEYS=KEYS)
    await house.settled()
    await beat(house, "node-a", since_ms=now_ms() - 7_200_000, host="host-1")

    async def run(*arguments: str, key: str = "key-of-alice", code: int = 0) -> str:
        environment = {"MANAGEMENT_URL": f"http://127.0.0.1:{house.port}", "MANAGEMENT_KEY": key}
        result = await asyncio.to_thread(CliRunner(env=environment).invoke, main, arguments)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    assert await run("pause", "small", "--model", "--reason", "why") == "It holds for the node that is there.\n"
    assert json.loads(await run("pause", "one", "--json"))["subject"] == "node-a"
    assert "pause by alice" in await run("models")
    nodes = await run("nodes")
    assert "2 h" in nodes
    assert "host-1" in nodes
    assert "unreachable" in nodes
    assert "is paused by alice" in await run("resume", "one", code=1)
    await run("resume", "small", "--model")
    await run("resume", "one")
    await run("drain", "one")
    assert "operator" in await run("pause", "one", key="key-of-grafana", code=1)
    assert "Check API_URL." in await run("errors", "--since", "2026-03-01")
    assert "ready" in await run("top", key="key-of-grafana")
    assert "No gateway" in await run("cancel", "req_nobody", code=1)
    assert "set MANAGEMENT_KEY" in await run("top", key="wrong-key-0123", code=1)
