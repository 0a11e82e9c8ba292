"""Keys of the database at real gateways: who comes in, what they may use, and how soon a change holds everywhere."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from broker.memory import MemoryBroker, MemoryServer
from gateway.keys.limit_memory import Memory
from tests.fake_upstream import FakeUpstream
from tests.in_process import InProcessFleet
from tests.keys import Keys, ask, bearer, models
from tests.raw_http import KEY, exchange, get, post
from tests.waiting import until
from wire import codec
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import Running
    from tests.postgres_server import PostgresServer
    from wire.backlog import BacklogReport

REVOKED_WITHIN_S = 2.0


@pytest.fixture(params=["sqlite", "postgresql"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    """A database without keys, of each kind."""
    if request.param == "sqlite":
        return Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    return Keys(request.getfixturevalue("postgres_url"))


class Fleet(InProcessFleet):
    """On a broker that a test can listen to."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        super().__init__(lambda: MemoryBroker(self.server), {})


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    started = Fleet()
    yield started
    await started.aclose()


async def status(port: int, key: str) -> int:
    return (await models(port, key)).status


async def test_a_revocation_holds_at_every_gateway_within_two_seconds(keys: Keys, fleet: InProcessFleet) -> None:
    key, other = await keys.create("first"), await keys.create("second")
    gateways = [await fleet.gateway(DATABASE_URL=keys.url) for _ in range(2)]
    assert [await status(each.port, key) for each in gateways] == [200, 200]
    began = time.monotonic()
    await keys.run("revoke", "first")
    committed = time.monotonic()
    for each in gateways:
        await until(lambda each=each: _is(each, key, 401), within_s=REVOKED_WITHIN_S)  # type: ignore[misc]
    assert time.monotonic() - committed < REVOKED_WITHIN_S, committed - began
    answer = await models(gateways[0].port, key)
    assert (answer.error["code"], answer.headers["www-authenticate"]) == ("invalid_api_key", "Bearer")
    assert key not in str(answer)
    assert await status(gateways[0].port, other) == 200


async def _is(gateway: Running, key: str, wanted: int) -> bool:
    return await status(gateway.port, key) == wanted


async def test_a_key_made_while_gateways_run_comes_in(keys: Keys, fleet: InProcessFleet) -> None:
    running = await fleet.gateway(DATABASE_URL=keys.url, API_KEYS=KEY)
    key = await keys.create("late")  # makes the tables too
    await until(lambda: _is(running, key, 200), within_s=REVOKED_WITHIN_S)
    assert await status(running.port, KEY) == 200, "API_KEYS count beside the database"


async def test_a_rotated_key_is_good_for_its_grace_and_its_limits_stay(keys: Keys, fleet: InProcessFleet) -> None:
    old = await keys.create("turned", "--requests-per-min", "50")
    running = await fleet.gateway(DATABASE_URL=keys.url)
    middle = (await keys.run("rotate", "turned", "--grace", "1h"))["key"]
    await until(lambda: _is(running, middle, 200), within_s=REVOKED_WITHIN_S)
    assert await status(running.port, old) == 200
    new = (await keys.run("rotate", "turned"))["key"]
    await until(lambda: _is(running, new, 200), within_s=REVOKED_WITHIN_S)
    assert [await status(running.port, each) for each in (old, middle)] == [401, 401]
    answer = await models(running.port, new)
    assert answer.headers["x-ratelimit-limit-requests"] == "50"


async def test_an_expired_key_is_refused_without_a_word_from_the_database(keys: Keys, fleet: InProcessFleet) -> None:
    key = await keys.create("short", "--expires", "5s")
    running = await fleet.gateway(DATABASE_URL=keys.url)
    assert await status(running.port, key) == 200
    await until(lambda: _is(running, key, 401), within_s=15)
    (row,) = (await keys.run("list"))["data"]
    assert row["state"] == "expired"


async def test_a_key_uses_and_sees_only_its_models(tmp_path: Path, fleet: InProcessFleet) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("narrow", "--model", "static", "--model", "other")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="hidden,static")
    await fleet.node()
    assert [each["id"] for each in json.loads((await models(running.port, key)).body)["data"]] == ["static"]
    assert (await exchange(running.port, get("/v1/models/hidden", *bearer(key)))).status == 404
    assert (await exchange(running.port, get("/v1/models/static", *bearer(key)))).status == 200
    assert (await ask(running.port, key, "static")).status == 200
    for model in ("hidden", "there-is-no-such-model"):
        answer = await ask(running.port, key, model)
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")


async def test_on_loopback_the_first_key_closes_the_door_for_good(tmp_path: Path, fleet: InProcessFleet) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    running = await fleet.gateway(DATABASE_URL=keys.url)
    anonymous = get("/v1/models", "accept: */*")
    assert (await exchange(running.port, anonymous)).status == 200
    await keys.create("first")
    await keys.run("revoke", "first")

    async def closed() -> bool:
        return (await exchange(running.port, anonymous)).status == 401

    await until(closed, within_s=REVOKED_WITHIN_S)


async def test_keys_outlive_their_database_for_a_while_and_no_longer(
    postgres_url: str, postgres_server: PostgresServer, fleet: InProcessFleet
) -> None:
    keys = Keys(postgres_url)
    key = await keys.create("kept")
    brief = await fleet.gateway(DATABASE_URL=keys.url, KEYS_STALE_S="3")
    patient = await fleet.gateway(DATABASE_URL=keys.url, API_KEYS=KEY)
    assert await status(brief.port, key) == 200
    await asyncio.to_thread(postgres_server.kill)
    try:
        await until(lambda: _is(brief, key, 503), within_s=10)
        answer = await models(brief.port, key)
        assert (answer.error["code"], answer.headers["retry-after"]) == ("keys_unavailable", "1")
        assert [await status(patient.port, each) for each in (key, KEY, "sk-wrong")] == [200, 200, 401]
        figures = (await exchange(patient.port, get("/metrics", *bearer(KEY)))).body.decode()
        assert "gateway_keys_database_up 0.0" in figures
        assert (await exchange(brief.port, get("/readyz", "accept: */*"))).status == 503
        assert (await exchange(patient.port, get("/readyz", "accept: */*"))).status == 200
    finally:
        await asyncio.to_thread(postgres_server.start)
    await until(lambda: _is(brief, key, 200), within_s=20)


async def test_requests_per_minute_are_counted_and_the_wait_is_told(tmp_path: Path, fleet: InProcessFleet) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("slow", "--requests-per-min", "2")
    free = await keys.create("free")
    running = await fleet.gateway(DATABASE_URL=keys.url)
    await fleet.node()
    told = await models(running.port, key)
    assert (told.headers["x-ratelimit-remaining-requests"], told.headers["x-ratelimit-reset-requests"]) == ("2", "0s")
    assert "x-ratelimit-limit-tokens" not in told.headers
    for left in ("1", "0"):
        answer = await ask(running.port, key, "static", stream=True)
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == left
        assert re.fullmatch(r"1m0s|5\d(\.\d{1,3})?s", answer.headers["x-ratelimit-reset-requests"])
    refused = await ask(running.port, key, "static")
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-should-retry"] == "true"
    assert 50 < int(refused.headers["retry-after"]) <= 60
    assert 50_000 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    other = await ask(running.port, free, "static")
    assert other.status == 200
    assert not [name for name in other.headers if name.startswith("x-ratelimit")]


async def test_what_a_key_may_not_send_is_not_told_to_have_been_let_in(tmp_path: Path, fleet: Fleet) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("slow", "--requests-per-min", "1")
    told: list[BacklogReport] = []
    beside = MemoryBroker(fleet.server)
    listening = await beside.listen(
        Topics().backlog, lambda report: told.append(codec.decode_backlog(report)), waiting_max=100
    )
    running = await fleet.gateway(DATABASE_URL=keys.url)
    await fleet.node()
    assert [(await ask(running.port, key, "static")).status for _ in range(5)] == [200, 429, 429, 429, 429]
    seen = len(told)
    await until(lambda: len(told) > seen)
    assert [model.accepted for report in told for model in report.models][-1] == 1
    await listening.aclose()
    await beside.aclose()


async def test_a_default_model_that_is_an_alias_is_open_to_whoever_may_use_the_alias(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    named = [await keys.create(name, "--model", name) for name in ("fast", "static", "other")]
    running = await fleet.gateway(DATABASE_URL=keys.url, MODEL_ALIASES="fast=static", DEFAULT_MODEL="fast")
    await fleet.node()
    assert [(await ask(running.port, key, "")).status for key in named] == [200, 200, 403]
    body = json.dumps({"prompts": [{"prompt": "Hello"}]}).encode()
    asked = [post(body, *bearer(key), f"content-length: {len(body)}", path="/api/v1/token_check") for key in named]
    assert [(await exchange(running.port, each)).status for each in asked] == [200, 200, 403]


async def test_what_is_refused_while_the_broker_is_away_does_not_count_against_its_key(
    tmp_path: Path, fleet: Fleet
) -> None:
    """Else who tries again until it is back would have no requests left then."""
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("patient", "--requests-per-min", "2")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="static")
    await fleet.node()
    fleet.server.set_available(False)
    refused = [await ask(running.port, key, "static") for _ in range(5)]
    assert {(each.status, each.error["code"]) for each in refused} == {(503, "queue_unavailable")}
    assert {each.headers["x-ratelimit-remaining-requests"] for each in refused} == {"2"}
    fleet.server.set_available(True)

    async def is_answered() -> bool:
        return (await ask(running.port, key, "static")).status == 200

    await until(is_answered)


async def test_what_is_refused_for_want_of_room_does_not_count_against_its_key(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("patient", "--requests-per-min", "3")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="static", REQUESTS_MAX="1")
    waiting = asyncio.ensure_future(ask(running.port, key, "static"))
    await until(lambda: _inside(running, key, 1), within_s=5)
    refused = [await ask(running.port, key, "static") for _ in range(5)]
    assert {(each.status, each.error["code"]) for each in refused} == {(503, "overloaded")}
    assert {each.headers["x-ratelimit-remaining-requests"] for each in refused} == {"2"}
    await fleet.node()
    assert (await waiting).status == 200


async def test_who_leaves_while_its_limits_are_asked_for_does_not_wait_for_the_broker(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("hasty", "--tokens-per-min", "1000", "--concurrent", "1")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="static", BROKER_WAIT_S="60")
    asked, answer = asyncio.Event(), asyncio.Event()
    window = Memory.get_sliding_window

    async def slow(storage: Memory, name: str, expiry: int) -> tuple[int, float, int, float]:
        asked.set()
        await answer.wait()
        return await window(storage, name, expiry)

    monkeypatch.setattr(Memory, "get_sliding_window", slow)
    monkeypatch.setattr("gateway.keys.quota.STORAGE_WAIT_S", 60.0)
    monkeypatch.setattr("gateway.keys.quota.LINE_WAIT_S", 60.0)
    fleet.server.set_available(False)
    leaving = asyncio.ensure_future(ask(running.port, key, "static"))
    await asked.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await until(lambda: not connected(running.port))
    answer.set()
    await until(lambda: _inside(running, key, 0), within_s=5)
    fleet.server.set_available(True)


def connected(port: int) -> bool:
    """Whether somebody is connected with this port."""
    here = psutil.Process().net_connections("tcp")
    return any(each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in here)


async def test_tokens_are_held_by_estimate_and_counted_as_used(tmp_path: Path, fleet: InProcessFleet) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("thrifty", "--tokens-per-min", "1000")
    running = await fleet.gateway(DATABASE_URL=keys.url)
    await fleet.node(STATIC_ANSWER="one two three")
    answer = await ask(running.port, key, "static", max_tokens=900)
    used = json.loads(answer.body)["usage"]["total_tokens"]
    assert used < 100
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 100, "while it runs, its estimate is held"

    async def left() -> int:
        return int((await models(running.port, key)).headers["x-ratelimit-remaining-tokens"])

    await until(lambda: _settled(left), within_s=5)
    assert await left() == 1000 - used
    refused = await ask(running.port, key, "static", max_tokens=1000)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after-ms"]) <= 120_000
    assert await left() == 1000 - used, "a refused request holds nothing"


@pytest.mark.parametrize(("begun", "counted"), [(False, range(1)), (True, range(900, 1000))])
async def test_the_estimate_of_a_client_that_leaves_counts_if_a_node_had_its_request(
    tmp_path: Path, fleet: InProcessFleet, begun: bool, counted: range
) -> None:
    """Else whoever leaves at the last word would have used nothing."""
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("hasty", "--tokens-per-min", "1000")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="static")

    async def left() -> int:
        return int((await models(running.port, key)).headers["x-ratelimit-remaining-tokens"])

    async def held() -> bool:
        return await left() < 100

    async with FakeUpstream() as upstream:
        if begun:
            await fleet.node(NODE_TYPE="remote", MODEL_NAME="static", API_URL=upstream.url)
        upstream.may_answer.clear()
        leaving = asyncio.ensure_future(ask(running.port, key, "static", max_tokens=900))
        await until(held, within_s=5)
        if begun:
            await upstream.until(lambda upstream: upstream.running == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: _inside(running, key, 0), within_s=5)
        assert 1000 - await left() in counted


async def _settled(left: object) -> bool:
    assert callable(left)
    return bool(await left() > 900)


async def test_requests_at_once_are_bounded_and_a_client_that_leaves_frees_its_place(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("single", "--concurrent", "1")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="static")
    waiting = asyncio.ensure_future(ask(running.port, key, "static"))  # no node is there to take it
    await until(lambda: _inside(running, key, 1), within_s=5)
    refused = await ask(running.port, key, "static", stream=True)
    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: _inside(running, key, 0), within_s=5)
    await fleet.node()
    for _ in range(3):
        assert (await ask(running.port, key, "static")).status == 200, "each end frees the place for the next"


async def test_a_client_that_leaves_frees_no_place_while_its_request_is_finished_for_nobody(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    """Else a key could have as many at work as it likes."""
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("single", "--concurrent", "1")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODELS="static", ON_DISCONNECT="finish")
    waiting = asyncio.ensure_future(ask(running.port, key, "static"))
    await until(lambda: _inside(running, key, 1), within_s=5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(10):
        assert [(await ask(running.port, key, "static")).status for _ in range(10)] == [429] * 10
    await fleet.node()
    await until(lambda: _inside(running, key, 0), within_s=10)
    assert (await ask(running.port, key, "static")).status == 200


async def _inside(running: Running, key: str, wanted: int) -> bool:
    figures = (await exchange(running.port, get("/metrics", *bearer(key)))).body.decode()
    return f"gateway_limited_requests_open {wanted}.0" in figures


async def test_a_key_for_an_alias_does_not_open_the_model_behind_it(tmp_path: Path, fleet: InProcessFleet) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    by_alias, by_model = await keys.create("alias", "--model", "fast"), await keys.create("model", "--model", "static")
    running = await fleet.gateway(DATABASE_URL=keys.url, MODEL_ALIASES="fast=static")
    await fleet.node()
    seen = [
        [each["id"] for each in json.loads((await models(running.port, key)).body)["data"]]
        for key in (by_alias, by_model)
    ]
    assert seen == [["fast"], ["fast", "static"]]
    asked = [(await ask(running.port, key, name)).status for key in (by_alias, by_model) for name in ("fast", "static")]
    assert asked == [200, 403, 200, 200]
    body = json.dumps({"prompts": [{"model": "static", "prompt": "Hello", "max_tokens": 1}]}).encode()
    path = "/api/v1/token_check"
    for key, status in ((by_alias, 403), (by_model, 200)):
        asking = post(body, *bearer(key), f"content-length: {len(body)}", path=path)
        assert (await exchange(running.port, asking)).status == status
