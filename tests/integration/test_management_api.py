"""The REST API: who may ask, what may be asked, and that the answers are those of the ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest

import management.app
import management.guesses
from broker.memory import MemoryBroker
from management.api.answers import Events, Nodes, RequestTimeline
from management.app import OPEN_PATHS
from management.guesses import WRONG_KEYS_PER_MIN
from tests import sqlite_file
from tests.billing import NOON_MS, billed, event, node_event, request_data, request_id_of
from tests.counting_house import CountingHouse
from tests.routes import caught, routes_of
from tests.waiting import until
from wire import codec
from wire.event import charge_id
from wire.presence import Presence
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    house = CountingHouse(tmp_path)
    yield house
    await house.end()


async def _pages(house: CountingHouse, path: str) -> list[dict[str, Any]]:
    """Everything behind a path, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        status, answer = await house.get(path + cursor)
        assert status == 200, answer
        found += answer["data"]
        if answer["next_cursor"] is None:
            return found
        assert answer["data"]
        cursor = f"&cursor={quote(answer['next_cursor'])}"


def _charges() -> list[bytes]:
    return [
        billed(
            number,
            time=f"2026-03-0{1 + number % 3}T12:00:00Z",
            model=("small", "großes/modell")[number % 2],
            key_id=("key-a", "key-b", None)[number % 3],
            node=f"node-{number % 5}",
            usage=Usage(prompt_tokens=number, completion_tokens=2 * number),
        )
        for number in range(25)
    ]


async def test_charges_are_paged_without_a_gap_or_a_repetition(house: CountingHouse) -> None:
    await house.publish(*_charges())
    await house.start()
    await house.settled()
    pages = await _pages(house, "/api/v1/charges?limit=10")
    newest_first = sorted(range(25), key=lambda number: (number % 3, number), reverse=True)  # of three days
    assert [charge["request_id"] for charge in pages] == [request_id_of(number) for number in newest_first]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ("model=gro%C3%9Fes/modell", {number for number in range(25) if number % 2}),
        ("key_id=key-b", {number for number in range(25) if number % 3 == 1}),
        ("node=node-4", {4, 9, 14, 19, 24}),
        (f"request_id={request_id_of(7)}", {7}),
        ("since=2026-03-02T12:00:00Z&until=2026-03-03T12:00:00Z", {number for number in range(25) if number % 3 == 1}),
        ("model=small&node=node-0", {0, 10, 20}),
        ("model=none", set()),
    ],
)
async def test_charges_are_filtered(house: CountingHouse, filters: str, numbers: set[int]) -> None:
    await house.publish(*_charges())
    await house.start()
    await house.settled()
    pages = await _pages(house, f"/api/v1/charges?limit=3&{filters}")
    assert {int(charge["request_id"].removeprefix("req_"), 16) for charge in pages} == numbers


@pytest.mark.parametrize("by", [[], ["model"], ["key"], ["day", "node"], ["node", "key", "model", "day"]])
async def test_usage_adds_up_to_the_same_total_however_it_is_grouped(house: CountingHouse, by: list[str]) -> None:
    await house.publish(*_charges())
    await house.start()
    await house.settled()
    limit = "limit=2&since=2026-03-01&until=2026-03-31&" if by else ""
    rows = await _pages(house, f"/api/v1/usage?{limit}" + "&".join(f"by={group}" for group in by))
    assert sum(row["requests"] for row in rows) == 25
    assert sum(row["prompt_tokens"] for row in rows) == sum(range(25))
    assert sum(row["completion_tokens"] for row in rows) == 2 * sum(range(25))
    names = {"key": "key_id"}
    grouped = {names.get(group, group) for group in by}
    assert all(set(row) & {"day", "model", "key_id", "node"} == grouped for row in rows)
    assert len({tuple(row[name] for name in sorted(grouped)) for row in rows}) == len(rows)


async def test_the_name_of_a_tag_is_taken_by_the_letter(house: CountingHouse) -> None:
    await house.publish(billed(1, tags={"team": "a"}), billed(2, tags={"Team": "b"}), billed(3, tags={"teams": "c"}))
    await house.start()
    await house.settled()
    _, answer = await house.get("/api/v1/usage?by=tag&tag=team")
    assert [(row["tag"], row["requests"]) for row in answer["data"]] == [("team=a", 1)]


@pytest.mark.parametrize("path", ["nodes", "models", "prices", "budgets", "quarantine", f"requests/{request_id_of(1)}"])
async def test_what_would_filter_nothing_is_refused(house: CountingHouse, path: str) -> None:
    await house.publish(billed(1))
    await house.start()
    await house.settled()
    assert (await house.get(f"/api/v1/{path}"))[0] == 200
    assert (await house.get(f"/api/v1/{path}?colour=red"))[0] == 400


async def test_nodes_are_filtered_by_model(house: CountingHouse) -> None:
    await house.publish(
        node_event("s1", "node.started", node="node-a"), node_event("s2", "node.started", node="node-b", model="large")
    )
    await house.start()
    await house.settled()
    _, answer = await house.get("/api/v1/nodes?model=large")
    assert [row["node"] for row in answer["data"]] == ["node-b"]


async def test_a_charge_whose_events_are_gone_is_still_known(house: CountingHouse) -> None:
    await house.publish(billed(1))
    await house.start()
    await house.settled()
    await sqlite_file.execute(house.path, "DELETE FROM events")
    status, told = await house.get(f"/api/v1/requests/{request_id_of(1)}")
    assert (status, told["charge"]["request_id"], told["events"]) == (200, request_id_of(1), [])


async def test_usage_is_filtered_by_day(house: CountingHouse) -> None:
    await house.publish(*_charges())
    await house.start()
    await house.settled()
    _, answer = await house.get("/api/v1/usage?by=day&since=2026-03-02&until=2026-03-02")
    assert [(row["day"], row["requests"]) for row in answer["data"]] == [("2026-03-02", 8)]


async def test_events_are_passed_on_as_they_were_told(house: CountingHouse) -> None:
    odd = event("odd", "request.praised", msgspec.Raw(b'{"stars":1e400,"of":"\xc3\xa9"}'))
    await house.publish(odd, event("failed-1", "request.failed", request_data(1, status="failed")), billed(1))
    await house.start()
    await house.settled()
    status, answer = await house.get(f"/api/v1/events?type=request.failed&request_id={request_id_of(1)}")
    assert status == 200
    (found,) = Events.model_validate(answer, extra="forbid").data
    assert found.event["id"] == "failed-1"
    assert len((await house.get(f"/api/v1/events?request_id={request_id_of(1)}"))[1]["data"]) == 2
    assert len(await _pages(house, "/api/v1/events?limit=1")) == 3
    _, praised = await house.get("/api/v1/events?type=io.workernode.request.praised")
    assert praised["data"][0]["event"]["data"]["of"] == "é"


async def test_nodes_are_those_heard_with_what_was_told_and_those_gone(house: CountingHouse) -> None:
    await house.publish(
        node_event("1", "node.started", node="node-here"),
        node_event(
            "2", "node.rate_limited", node="node-here", time="2026-03-01T12:00:01Z", message="Too many requests."
        ),
        node_event("3", "node.stopped", node="node-gone"),
    )
    await house.start()
    await house.settled()
    producer = await MemoryBroker(house.server).producer(house.topics.presence)
    heartbeat = Presence(
        node="node-here",
        name="one",
        model="small",
        type="static",
        version="1",
        state="rate_limited",
        slots=4,
        busy=2,
        sent_ms=NOON_MS,
        started_ms=NOON_MS,
        until_ms=NOON_MS + 9,
    )
    await producer.send(b"no heartbeat")
    await producer.send(codec.encode(heartbeat))
    status, answer = await house.get("/api/v1/nodes")
    assert status == 200
    here, gone = Nodes.model_validate(answer, extra="forbid").data
    assert (here.node, here.present, here.state, here.slots, here.busy) == ("node-here", True, "rate_limited", 4, 2)
    assert here.last_event is not None
    assert (here.last_event.type, here.last_event.message) == ("node.rate_limited", "Too many requests.")
    assert (gone.node, gone.present, gone.state) == ("node-gone", False, None)
    _, metrics = await house.get("/metrics")
    assert 'management_nodes{state="rate_limited"} 1.0' in metrics
    assert 'management_undecodable_messages_total{topic="presence"} 1.0' in metrics
    _, only_present = await house.get("/api/v1/nodes?gone=0")
    assert [node["node"] for node in only_present["data"]] == ["node-here"]


async def test_the_roll_is_called_at_the_start(house: CountingHouse) -> None:
    outside = MemoryBroker(house.server)
    calls: list[bytes] = []
    await outside.listen(house.topics.roll_call, calls.append, waiting_max=10)
    await house.start()
    await until(lambda: calls)
    call = codec.decode_roll_call(calls[0])
    assert call.sender.startswith("management-")
    await outside.aclose()


async def test_no_route_but_the_probes_is_open_without_the_key(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management.guesses, "WRONG_KEYS_PER_MIN", 1_000_000)
    assert {"/livez", "/readyz"} == OPEN_PATHS
    with caught(management.app, "Documented") as made:
        await house.start(MANAGEMENT_KEY="hunter-2")
    routes = [*routes_of(made[0], "req_1"), ("GET", "/nothing"), ("GET", "//api/v1/charges"), ("GET", "/livez/")]
    assert {("GET", "/api/v1/charges"), ("GET", "/api/v1/requests/req_1"), ("GET", "/metrics")} < set(routes)
    wrong = ("Bearer hunter-", "Basic hunter-2", "hunter-2", "Bearer", "")
    strangers = ({}, *({"authorization": each} for each in wrong))
    for method, path in routes:
        for headers in strangers:
            for where in (path, f"{path}?key=hunter-2&api_key=hunter-2"):
                status, answer = await house.get(where, method=method, **headers)
                if path in OPEN_PATHS:
                    assert status == 200, (method, where)
                else:
                    assert status == 401, (method, where, headers)
                    assert method == "HEAD" or answer["error"]["code"] == "invalid_api_key"
        known = await house.get(path, method=method, authorization="bearer hunter-2")
        assert known[0] in (200, 404, 400), (method, path)  # 400: the action has no body, or its number is none


KEYS = "alice=operator:key-of-alice,grafana=reader:key-of-grafana"


def _shown(key: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **headers}


async def test_whoever_guesses_keys_has_to_wait_and_locks_out_nobody_who_was_there(house: CountingHouse) -> None:
    """Also where all of them come from one address, as behind a proxy that nobody told management of."""
    await house.start(MANAGEMENT_KEYS=KEYS)
    assert (await house.get("/metrics", **_shown("key-of-grafana")))[0] == 200
    for number in range(WRONG_KEYS_PER_MIN):
        assert (await house.get("/api/v1/charges", **_shown(f"guess-{number}")))[0] == 401
    for key in ("guess-again", "key-of-alice"):  # a right one looks like a guess, or guessing would go on
        status, answer = await house.get("/api/v1/charges", **_shown(key))
        assert (status, answer["error"]["code"], answer["error"]["type"]) == (
            429,
            "too_many_wrong_keys",
            "rate_limit_error",
        )
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{house.port}") as session,
        session.get("/metrics", headers=_shown("guess-again")) as refused,
    ):
        assert 0 < int(refused.headers["retry-after"]) <= 60
    assert (await house.get("/api/v1/charges"))[0] == 401, "who shows nothing guesses nothing"
    status, metrics = await house.get("/metrics", **_shown("key-of-grafana"))
    assert status == 200
    assert f'management_wrong_keys_total{{result="wrong"}} {WRONG_KEYS_PER_MIN}.0' in metrics
    assert 'management_wrong_keys_total{result="refused"} 3.0' in metrics
    assert (await house.get("/readyz", **_shown("guess-again")))[0] == 200


async def test_who_shows_no_key_at_all_is_not_counted(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEYS=KEYS)
    for _ in range(WRONG_KEYS_PER_MIN + 1):
        assert (await house.get("/api/v1/charges"))[0] == 401
    assert (await house.get("/api/v1/charges", **_shown("key-of-alice")))[0] == 200


async def test_behind_a_proxy_wrong_keys_are_counted_by_who_shows_them(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEYS=KEYS, MANAGEMENT_TRUSTED_PROXIES="127.0.0.0/8")

    async def status(key: str, address: str) -> int:
        return (await house.get("/api/v1/charges", **_shown(key, **{"x-forwarded-for": address})))[0]

    for _ in range(WRONG_KEYS_PER_MIN):
        assert await status("guess", "192.0.2.1") == 401
    assert await status("key-of-alice", "192.0.2.1") == 429
    assert await status("key-of-alice", "192.0.2.2") == 200
    assert await status("key-of-alice", "192.0.2.1") == 429, "that it is right elsewhere says nothing here"


async def test_who_was_there_is_remembered_up_to_a_bound(house: CountingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management.app, "PLACES_MAX", 2)
    await house.start(MANAGEMENT_KEYS=KEYS, MANAGEMENT_TRUSTED_PROXIES="127.0.0.0/8")

    async def status(key: str, address: str) -> int:
        return (await house.get("/api/v1/charges", **_shown(key, **{"x-forwarded-for": address})))[0]

    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert await status("key-of-alice", address) == 200
        for _ in range(WRONG_KEYS_PER_MIN):
            await status("guess", address)
    assert await status("key-of-alice", "192.0.2.1") == 429
    assert await status("key-of-alice", "192.0.2.2") == 200
    assert await status("key-of-alice", "192.0.2.3") == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/api/v1/charges", "/openapi.json", "/"])
async def test_head_is_answered_as_get_without_its_body(house: CountingHouse, path: str) -> None:
    await house.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{house.port}") as session, session.head(path) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/api/v1/charges", "/api/v1/requests/req_1/prompt", "/metrics", "/openapi.json"])
async def test_without_a_key_nothing_is_told_to_a_page_whose_name_was_made_to_point_here(
    house: CountingHouse, path: str
) -> None:
    await house.start()
    status, answer = await house.get(path, host="evil.example:8082")
    assert (status, answer["error"]["code"]) == (403, "foreign_page")
    assert (await house.get("/readyz", host="probe"))[0] == 200
    assert (await house.get(path, host="localhost:8082"))[0] != 403


@pytest.mark.parametrize(
    ("path", "method", "status", "code", "param"),
    [
        ("/nothing", "GET", 404, "not_found", None),
        ("/api/v1/charges", "DELETE", 405, "method_not_allowed", None),
        ("/api/v1/charges?limit=1001", "GET", 400, "invalid_value", "limit"),
        ("/api/v1/charges?limit=many", "GET", 400, "invalid_value", "limit"),
        ("/api/v1/charges?cursor=x", "GET", 400, "invalid_value", "cursor"),
        ("/api/v1/charges?since=2026-03-01T12:00:00", "GET", 400, "invalid_value", "since"),
        ("/api/v1/charges?until=0.5", "GET", 400, "invalid_value", "until"),
        ("/api/v1/usage?since=20260301", "GET", 400, "invalid_value", "since"),
        ("/api/v1/charges?modell=small", "GET", 400, "invalid_value", "modell"),
        ("/api/v1/charges?model=a%00b", "GET", 400, "invalid_value", "model"),
        ("/api/v1/usage?by=model&by=colour", "GET", 400, "invalid_value", "by"),
        ("/api/v1/usage?by=key&by=tag&since=2026-03-01&until=2026-04-01", "GET", 400, "invalid_value", "by"),
        ("/api/v1/costs?by=node&by=key&since=2026-03-01", "GET", 400, "invalid_value", "by"),
        ("/api/v1/events?limit=201", "GET", 400, "invalid_value", "limit"),
        ("/api/v1/nodes?gone=-1", "GET", 400, "invalid_value", "gone"),
    ],
)
async def test_every_error_has_one_shape(
    house: CountingHouse, path: str, method: str, status: int, code: str, param: str | None
) -> None:
    await house.start()
    found, answer = await house.get(path, method=method)
    assert (found, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["message"].endswith((".", "'."))


async def test_a_database_that_cannot_be_read_is_a_503(house: CountingHouse) -> None:
    await house.start()
    await sqlite_file.execute(house.path, "ALTER TABLE charges RENAME TO elsewhere")
    status, answer = await house.get("/api/v1/charges")
    assert (status, answer["error"]["code"]) == (503, "database_unavailable")


@pytest.mark.parametrize("what", ["charges", "charges?format=csv", "events"])
async def test_an_export_from_a_database_that_cannot_be_read_is_a_503_too(house: CountingHouse, what: str) -> None:
    await house.start()
    await sqlite_file.execute(house.path, f"ALTER TABLE {what.partition('?')[0]} RENAME TO elsewhere")
    status, answer = await house.get(f"/api/v1/export/{what}")
    assert (status, answer["error"]["code"]) == (503, "database_unavailable")


async def test_an_event_that_was_told_on_many_lines_is_one_line_of_an_export(house: CountingHouse) -> None:
    told = json.loads(billed(1))
    lines = json.dumps(told, indent=2)
    await house.publish(billed(0), lines.replace("\n", "\r\n").encode(), billed(2))
    await house.start()
    await house.settled()
    _, text = await house.get("/api/v1/export/events")
    exported = [json.loads(line)["event"] for line in text.split("\n")[:-1]]
    assert [event["id"] for event in exported] == [charge_id(request_id_of(number)) for number in range(3)]
    assert exported[1] == told


async def test_the_answers_are_documented(house: CountingHouse) -> None:
    await house.start()
    _, document = await house.get("/openapi.json")
    names = {"charges", "usage", "costs", "prices", "budgets", "ends", "events", "nodes", "quarantine"}
    names |= {"requests/{request_id}", "requests/{request_id}/prompt", "export/charges", "export/events"}
    names |= {"models", "dead-letters", "actions", "actions/{action_id}", "errors", "alerts"}
    assert set(document["paths"]) == {f"/api/v1/{name}" for name in names}
    lines = {name: document["paths"].pop(f"/api/v1/export/{name}") for name in ("charges", "events")}
    assert all("application/jsonl" in path["get"]["responses"]["200"]["content"] for path in lines.values())
    for path in document["paths"].values():
        assert set(path["get"]["responses"]) - {"403", "404"} == {"200", "400", "401", "429", "503"}
        for response in (response for operation in path.values() for response in operation["responses"].values()):
            schema = response["content"]["application/json"]["schema"]
            assert schema["$ref"].removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(document)


def _failed(number: int) -> bytes:
    id_ = request_id_of(number)
    return event(f"failed-{id_}", "request.failed", request_data(number, status="refused"), subject=id_)


async def test_a_request_is_shown_with_its_end_its_charge_and_all_that_was_told(house: CountingHouse) -> None:
    cost = event("cost-att_1", "request.cost", request_data(1, status="superseded"))
    await house.publish(cost, billed(1), _failed(2))
    await house.start()
    await house.settled()
    status, answer = await house.get(f"/api/v1/requests/{request_id_of(1)}")
    assert status == 200
    assert msgspec.convert(answer, dict) == RequestTimeline(**answer).model_dump()
    assert answer["end"]["status"] == "answered"
    assert answer["charge"]["completion_tokens"] == 5
    assert [stored["event"]["id"] for stored in answer["events"]] == ["cost-att_1", f"charge-{request_id_of(1)}"]
    _, answer = await house.get(f"/api/v1/requests/{request_id_of(2)}")
    assert answer["end"]["status"] == "failed"
    assert answer["charge"] is None
    status, answer = await house.get(f"/api/v1/requests/{request_id_of(3)}")
    assert (status, answer["error"]["code"]) == (404, "not_found")


async def test_a_request_whose_end_and_charge_are_deleted_before_its_events_is_not_open(house: CountingHouse) -> None:
    cost = event("cost-att_1", "request.cost", request_data(1, status="superseded"))
    await house.publish(cost, billed(1), _failed(2), event("cost-att_3", "request.cost", request_data(3)))
    await house.start()
    await house.settled()
    _, before = await house.get(f"/api/v1/requests/{request_id_of(1)}")
    await sqlite_file.execute(house.path, "DELETE FROM charges", "DELETE FROM ends")
    _, answer = await house.get(f"/api/v1/requests/{request_id_of(1)}")
    assert (answer["end"], answer["charge"]) == (before["end"], None)
    for number, shown in ((1, "Answered</span>"), (2, "Failed</span>")):
        _, page = await house.get(f"/requests/{request_id_of(number)}")
        assert shown in page
        assert "No end yet" not in page
        assert ("kept no longer" in page) == (number == 1)
    assert "No end yet" in (await house.get(f"/requests/{request_id_of(3)}"))[1]


async def test_a_charge_is_the_end_whatever_was_told_before(house: CountingHouse) -> None:
    id_ = request_id_of(4)
    dead = event(f"dead-{id_}", "request.dead", request_data(4, status="dead"), subject=id_)
    replayed = event(f"replayed-{id_}-1", "request.replayed", request_data(4), subject=id_)
    await house.publish(dead, billed(4), replayed)
    await house.start()
    await house.settled()
    (end,) = await _pages(house, "/api/v1/ends?limit=10")
    assert (end["request_id"], end["status"]) == (id_, "answered")


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ("status=answered", set(range(25))),
        ("status=failed", {30, 31}),
        ("status=answered&key_id=key-b", {number for number in range(25) if number % 3 == 1}),
        ("node=node-4", {4, 9, 14, 19, 24}),
        ("model=none", set()),
    ],
)
async def test_ends_are_filtered_and_paged(house: CountingHouse, filters: str, numbers: set[int]) -> None:
    await house.publish(*_charges(), _failed(30), _failed(31))
    await house.start()
    await house.settled()
    pages = await _pages(house, f"/api/v1/ends?limit=3&{filters}")
    assert {int(end["request_id"].removeprefix("req_"), 16) for end in pages} == numbers
    assert len(pages) == len(numbers)
