"""Budgets at real gateways, two before one database: never a request too much, whoever asks at once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from broker.memory import MemoryBroker, MemoryServer
from fleet.__main__ import main
from gateway.queue.request_queue import NotPublished, RequestQueue
from gateway.settings import GatewaySettings
from process.settings import WrongSettings, load
from store import budgets as table
from store import database
from store.database import reading
from store.money_tables import RESERVATIONS
from tests.in_process import InProcessFleet
from tests.keys import Keys, ask, bearer
from tests.raw_http import exchange, get, post
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.raw_http import Answer

PRICES = """
[[price]]
model = "static"
currency = "USD"
input = 0
output = 0
per_request = 1

[[price]]
model = "by-tokens"
currency = "USD"
input = 0
output = 1000000
"""


class Treasury:
    """A database with its commands."""

    def __init__(self, url: str, prices: Path) -> None:
        self.url, self.keys = url, Keys(url)
        self.environment = {"DATABASE_URL": url, "PRICES_FILE": str(prices)}

    async def run(self, *arguments: str, code: int = 0) -> str:
        """A command of ``fleet``."""

        def invoke() -> str:
            result = CliRunner(env=self.environment).invoke(main, arguments)
            assert result.exit_code == code, result.output
            return result.stdout

        return await asyncio.to_thread(invoke)

    async def standing(self) -> dict[str, Any]:
        """The one budget there is."""
        (budget,) = json.loads(await self.run("budgets", "list", "--json"))["data"]
        shown: dict[str, Any] = budget
        return shown

    async def reserved(self) -> int:
        """How many reservations there are."""
        engine = database.open(self.url)
        async with reading(engine) as connection:
            found = (await connection.execute(RESERVATIONS.select())).all()
        await engine.dispose()
        return len(found)


@pytest.fixture
def treasury(database_url: str, tmp_path: Path) -> Treasury:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    return Treasury(database_url, prices)


@pytest.fixture
async def fleet() -> AsyncIterator[InProcessFleet]:
    server = MemoryServer()
    started = InProcessFleet(lambda: MemoryBroker(server), {})
    yield started
    await started.aclose()


async def test_of_200_requests_at_once_at_two_gateways_exactly_as_many_pass_as_the_budget_pays(
    treasury: Treasury, fleet: InProcessFleet
) -> None:
    key = await treasury.keys.create("alice")
    await treasury.run("budgets", "set", "key", "alice", "month", "50.00")
    await fleet.management(treasury.url, PRICES_FILE=treasury.environment["PRICES_FILE"])
    await fleet.node()
    gateways = [await fleet.gateway(BUDGETS="true", **treasury.environment) for _ in range(2)]
    answers = await asyncio.gather(*(ask(gateways[number % 2].port, key, "static") for number in range(200)))
    assert Counter(answer.status for answer in answers) == {200: 50, 429: 150}
    refused = next(answer for answer in answers if answer.status == 429)
    assert (refused.error["code"], refused.error["type"]) == ("insufficient_quota", "insufficient_quota")
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert "key 'alice' a month" in refused.error["message"]

    async def is_settled() -> bool:
        standing = await treasury.standing()
        return (standing["spent"], standing["reserved"], standing["state"]) == ("50.00", "0.00", "exhausted")

    await until(is_settled, within_s=20)
    assert (await ask(gateways[0].port, key, "static")).status == 429
    # What it has nothing to do with goes on, without the database.
    other = await treasury.keys.create("bob")
    await until(lambda: _passes(gateways[1].port, other), within_s=5)


async def _passes(port: int, key: str) -> bool:
    return (await ask(port, key, "static")).status == 200


async def test_what_is_not_used_of_a_reservation_can_be_used_by_others(
    treasury: Treasury, fleet: InProcessFleet
) -> None:
    key = await treasury.keys.create("alice", "--tag", "team=search")
    # Room for one answer of 100 tokens at a time, of which 2 are used.
    await treasury.run("budgets", "set", "tag", "team=search", "total", "110")
    await fleet.management(treasury.url, PRICES_FILE=treasury.environment["PRICES_FILE"])
    node = {"MODEL_NAME": "by-tokens", "STATIC_ANSWER": "one two"}
    await fleet.node(**node)
    gateway = await fleet.gateway(**treasury.environment)
    spent: list[int] = []
    for _ in range(3):
        answer = await ask(gateway.port, key, "by-tokens", max_tokens=100)
        assert answer.status == 200, answer.body
        spent.append(json.loads(answer.body)["usage"]["completion_tokens"])
        await until(lambda: _nothing_reserved(treasury), within_s=10)
    assert (await treasury.standing())["spent"] == f"{sum(spent)}.00"
    assert (await ask(gateway.port, key, "by-tokens", max_tokens=111)).status == 429
    # One without a bound reserves BUDGET_ANSWER_TOKENS.
    assert (await ask(gateway.port, key, "by-tokens")).status == 429


async def _nothing_reserved(treasury: Treasury) -> bool:
    return await treasury.reserved() == 0


async def test_an_end_without_a_charge_releases_what_was_reserved(treasury: Treasury, fleet: InProcessFleet) -> None:
    key = await treasury.keys.create("alice")
    await treasury.run("budgets", "set", "model", "static", "day", "1.00")
    await fleet.management(treasury.url, PRICES_FILE=treasury.environment["PRICES_FILE"])
    gateway = await fleet.gateway(MODELS="static", REQUEST_TIMEOUT_S="2", **treasury.environment)
    waiting = asyncio.create_task(ask(gateway.port, key, "static"))
    await until(lambda: _some_reserved(treasury), within_s=10)
    assert (await ask(gateway.port, key, "static")).status == 429
    assert (await waiting).status == 504  # nobody serves it
    await until(lambda: _nothing_reserved(treasury), within_s=10)
    assert (await treasury.standing())["spent"] == "0.00"


async def _some_reserved(treasury: Treasury) -> bool:
    return await treasury.reserved() == 1


async def test_what_cannot_be_counted_is_refused(treasury: Treasury, fleet: InProcessFleet) -> None:
    key = await treasury.keys.create("alice")
    await treasury.run("budgets", "set", "key", "alice", "total", "1000", "--currency", "EUR")
    await fleet.node()
    gateway = await fleet.gateway(**treasury.environment)
    answer = await ask(gateway.port, key, "static")
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
    assert "has no price in it" in answer.error["message"]


async def test_every_answer_that_is_generated_is_reserved_for(treasury: Treasury, fleet: InProcessFleet) -> None:
    key = await treasury.keys.create("alice")
    await treasury.run("budgets", "set", "key", "alice", "total", "5")
    gateway = await fleet.gateway(MODELS="by-tokens", **treasury.environment)

    async def asked(**fields: Any) -> Answer:
        body = json.dumps({"model": "by-tokens", "prompt": "Hi", "max_tokens": 1} | fields).encode()
        head = (*bearer(key), f"content-length: {len(body)}")
        return await exchange(gateway.port, post(body, *head, path="/v1/completions"))

    for fields in ({"best_of": 6}, {"prompt": ["Hi"] * 3, "n": 2}, {"n": 6}, {"max_tokens": 2**31 - 1, "n": 128}):
        answer = await asked(**fields)
        assert (answer.status, answer.error["code"]) == (429, "insufficient_quota"), fields
        assert "has no room for this request. It is 5.00 USD" in answer.error["message"]
    waiting = asyncio.ensure_future(asked(best_of=5))
    await until(lambda: _some_reserved(treasury))
    assert (await treasury.standing())["reserved"] == "5.00"
    await fleet.node(MODEL_NAME="by-tokens")
    assert (await waiting).status == 200


async def test_without_the_database_who_has_a_budget_waits_and_others_pass(
    treasury: Treasury, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await treasury.keys.create("alice"), await treasury.keys.create("bob")
    await treasury.run("budgets", "set", "key", "alice", "total", "1000")
    await fleet.node()
    gateway = await fleet.gateway(**treasury.environment)

    async def away(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(table, "reserve", away)
    answer = await ask(gateway.port, alice, "static")
    assert (answer.status, answer.error["code"]) == (503, "budgets_unavailable")
    assert (await ask(gateway.port, bob, "static")).status == 200


async def test_who_finds_the_gateway_full_or_the_queue_away_holds_nothing(
    treasury: Treasury, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await treasury.keys.create("alice", "--concurrent", "2")
    await treasury.run("budgets", "set", "key", "alice", "day", "9")
    gateway = await fleet.gateway(MODELS="static", REQUESTS_MAX="1", **treasury.environment)

    async def waits(count: int) -> bool:
        figures = (await exchange(gateway.port, get("/metrics", *bearer(key)))).body.decode()
        return all(f"{name} {count}.0" in figures for name in ("gateway_requests_waiting", "gateway_requests_open"))

    waiting = asyncio.create_task(ask(gateway.port, key, "static"))
    await until(lambda: _some_reserved(treasury))
    for _ in range(3):  # a place that one of them kept would be the last that the key has
        answer = await ask(gateway.port, key, "static")
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    await until(lambda: _some_reserved(treasury))
    assert await waits(1)
    waiting.cancel()
    await until(lambda: waits(0))

    async def away(*_: object) -> None:
        raise NotPublished(retry_after_ms=1000)

    monkeypatch.setattr(RequestQueue, "publish", away)
    before = await treasury.reserved()
    for _ in range(3):
        answer = await ask(gateway.port, key, "static")
        assert (answer.status, answer.error["code"]) == (503, "queue_unavailable")

    async def is_as_before() -> bool:
        return await treasury.reserved() == before and await waits(0)

    await until(is_as_before)
    figures = (await exchange(gateway.port, get("/metrics", *bearer(key)))).body.decode()
    assert 'gateway_requests_total{outcome="cancelled"} 1.0' in figures, "who is refused was never accepted"


async def test_tags_are_those_of_the_key_and_of_the_metadata_that_the_settings_name(
    treasury: Treasury, fleet: InProcessFleet
) -> None:
    plain, fixed = await treasury.keys.create("plain"), await treasury.keys.create("fixed", "--tag", "team=search")
    await treasury.run("budgets", "set", "tag", "team=search", "day", "0.5")
    await treasury.run("budgets", "set", "tag", "job=night", "day", "0.5")
    await fleet.node()
    gateways = [await fleet.gateway(METADATA_TAGS=names, **treasury.environment) for names in ("*", "job,customer")]

    async def statuses(key: str, **metadata: str) -> list[int]:
        return [(await ask(gateway.port, key, "static", metadata=metadata)).status for gateway in gateways]

    assert await statuses(plain, team="other") == [200, 200]
    assert await statuses(plain, team="search") == [429, 200]
    assert await statuses(plain, job="night") == [429, 429]
    assert await statuses(fixed, team="other") == [429, 429], "a key's own tags are nobody else's to say"


async def test_a_removed_budget_holds_nobody(treasury: Treasury, fleet: InProcessFleet) -> None:
    key = await treasury.keys.create("alice")
    await treasury.run("budgets", "set", "key", "alice", "day", "0.5")
    await fleet.node()
    gateway = await fleet.gateway(**treasury.environment)
    assert (await ask(gateway.port, key, "static")).status == 429
    await treasury.run("budgets", "remove", "key", "alice", "day")
    await until(lambda: _passes(gateway.port, key), within_s=5)
    await treasury.run("budgets", "remove", "key", "alice", "day", code=1)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PRICES_FILE": "{prices}"}, "BUDGETS=true needs the database that gateways and management share"),
        ({"DATABASE_URL": "sqlite+aiosqlite:///x.db"}, "BUDGETS=true needs prices to count by"),
    ],
)
def test_a_gateway_that_could_not_keep_to_budgets_does_not_start(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    given = {name: value.format(prices=tmp_path / "prices.toml") for name, value in environment.items()}
    with pytest.raises(WrongSettings, match=sentence):
        load(GatewaySettings, {"BUDGETS": "true", **given})
