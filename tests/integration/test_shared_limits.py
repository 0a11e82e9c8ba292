"""Limits of keys that several gateways count together, in a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from broker.memory import MemoryBroker, MemoryServer
from gateway.keys.key import Key
from gateway.keys.quota import Quota
from process.lifecycle import Tasks
from process.logging import Log
from tests.in_process import InProcessFleet
from tests.keys import Keys, ask, bearer, models
from tests.raw_http import exchange, get
from tests.waiting import until
from wire.errors import RateLimited
from wire.request import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import Running
    from tests.redis_server import RedisServer

REQUEST = Request(
    request_id="req_1", model="m", endpoint="chat/completions", body=b"{}", gateway="g", received_ms=1, deadline_ms=2
)


@pytest.fixture
async def fleet() -> AsyncIterator[InProcessFleet]:
    server = MemoryServer()
    started = InProcessFleet(lambda: MemoryBroker(server), {})
    yield started
    await started.aclose()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that got no core for a second takes its own silence for the store's, and lets everybody in."""
    for name in ("STORAGE_WAIT_S", "LINE_WAIT_S"):
        monkeypatch.setattr(f"gateway.keys.quota.{name}", 30.0)


async def two(fleet: InProcessFleet, keys: Keys, redis: RedisServer) -> list[Running]:
    """Gateways, and a node that answers with three words."""
    gateways = [await fleet.gateway(DATABASE_URL=keys.url, LIMITS_STORAGE_URL=redis.limits_url) for _ in range(2)]
    await fleet.node(STATIC_ANSWER="one two three")
    return gateways


async def resets(gateway: Running, key: str) -> str:
    return (await models(gateway.port, key)).headers["x-ratelimit-reset-requests"]


async def left(gateway: Running, key: str, kind: str) -> int:
    return int((await models(gateway.port, key)).headers[f"x-ratelimit-remaining-{kind}"])


@pytest.mark.usefixtures("patient")
async def test_two_gateways_let_in_exactly_what_one_would(
    tmp_path: Path, fleet: InProcessFleet, redis_server: RedisServer
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("both", "--requests-per-min", "10")
    gateways = await two(fleet, keys, redis_server)
    answers = await asyncio.gather(*(ask(gateways[number % 2].port, key, "static") for number in range(40)))
    assert Counter(answer.status for answer in answers) == {200: 10, 429: 30}
    for refused in (answer for answer in answers if answer.status == 429):
        assert 50 < int(refused.headers["retry-after"]) <= 60
    assert [await left(gateway, key, "requests") for gateway in gateways] == [0, 0]


@pytest.mark.usefixtures("patient")
async def test_a_reset_is_never_told_sooner_than_what_another_gateway_has_let_in(
    tmp_path: Path, fleet: InProcessFleet, redis_server: RedisServer
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("both", "--requests-per-min", "10")
    first, second = await two(fleet, keys, redis_server)
    assert await resets(first, key) == "0s"
    assert [(await ask(gateway.port, key, "static")).status for gateway in (first, second)] == [200, 200]
    assert [await resets(gateway, key) for gateway in (first, second)] == ["1m0s", "1m0s"]


@pytest.mark.usefixtures("patient")
async def test_a_burst_of_more_requests_than_the_store_takes_connections_opens_no_limit(
    redis_server: RedisServer,
) -> None:
    registry = CollectorRegistry()
    quota = Quota(redis_server.limits_url, Tasks(Log("gateway")), registry)
    key = Key(name="k", requests_per_min=10)

    async def lets_in() -> bool:
        try:
            quota.end(await quota.admit(key, REQUEST), 0)
        except RateLimited:
            return False
        return True

    assert Counter(await asyncio.gather(*(lets_in() for _ in range(300)))) == {True: 10, False: 290}
    assert registry.get_sample_value("gateway_limits_unchecked_total") == 0
    await quota.aclose()


@pytest.mark.usefixtures("patient")
async def test_tokens_used_at_one_gateway_are_gone_at_the_other(
    tmp_path: Path, fleet: InProcessFleet, redis_server: RedisServer
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("both", "--tokens-per-min", "1000")
    gateways = await two(fleet, keys, redis_server)
    answers = [await ask(gateway.port, key, "static") for gateway in gateways]
    used = sum(json.loads(answer.body)["usage"]["total_tokens"] for answer in answers)

    async def is_counted() -> bool:
        return [await left(gateway, key, "tokens") for gateway in gateways] == [1000 - used] * 2

    await until(is_counted)
    refused = [await ask(gateway.port, key, "static", max_tokens=1000) for gateway in gateways]
    assert [(answer.status, answer.error["code"]) for answer in refused] == [(429, "rate_limit_exceeded")] * 2


async def test_a_store_that_is_away_stops_nobody_and_counts_again_once_it_is_back(
    tmp_path: Path, fleet: InProcessFleet, redis_server: RedisServer
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("one", "--requests-per-min", "1")
    gateway, _ = await two(fleet, keys, redis_server)
    assert [(await ask(gateway.port, key, "static")).status for _ in range(2)] == [200, 429]
    await asyncio.to_thread(redis_server.stop)
    away = [await ask(gateway.port, key, "static") for _ in range(3)]
    assert [answer.status for answer in away] == [200] * 3
    assert not [name for name in away[-1].headers if name.startswith("x-ratelimit")]
    figures = (await exchange(gateway.port, get("/metrics", *bearer(key)))).body.decode()
    assert "gateway_limits_unchecked_total 0.0" not in figures
    await asyncio.to_thread(redis_server.start)  # and it has forgotten everything

    async def limited() -> bool:
        return (await ask(gateway.port, key, "static")).status == 429

    await until(limited)
