"""What a gateway reserves for requests, and what it does about the database that it asks for it."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway.keys.budgets import Budgets
from gateway.keys.keyring import Keyring
from process.lifecycle import Tasks
from process.logging import Log
from store import budgets as table
from store import database
from store.budgets import Ask, Budget, BudgetId
from store.database import reading, writing
from store.migrate import upgrade
from store.money_tables import RESERVATIONS
from store.prices import Price, PriceList
from tests.waiting import until
from wire.errors import BudgetsUnavailable, InsufficientQuota
from wire.request import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MODEL = "m"
KEY = BudgetId("key", "app", "day")
ANSWER_TOKENS = 1000
RECEIVED_MS, DEADLINE_MS = 2_000_000_000_000, 2_000_000_600_000
DOLLAR = 1_000_000_000
"""For a million tokens: 1,000 nanos for each."""
REQUEST = Request(
    request_id="req_1",
    model=MODEL,
    endpoint="chat/completions",
    body=b"{}",
    gateway="gateway",
    received_ms=RECEIVED_MS,
    deadline_ms=DEADLINE_MS,
    key_id="app",
    max_tokens=1,
)


def price(**fields: Any) -> Price:
    return Price(**{"model": MODEL, "currency": "USD", "input": DOLLAR, "output": DOLLAR, **fields})


def request(number: int = 1, **fields: Any) -> Request:
    return msgspec.structs.replace(REQUEST, request_id=f"req_{number}", **fields)


class Desk:
    """Budgets before a database of their own, and what is reserved there."""

    def __init__(self, url: str, *prices: Price, required: bool = False) -> None:
        self.tasks, self.registry = Tasks(Log("gateway")), CollectorRegistry()
        self.keyring = Keyring(url, CollectorRegistry(), stale_s=300)
        self.budgets = Budgets(
            self.keyring,
            PriceList(prices or (price(),)),
            self.tasks,
            self.registry,
            answer_tokens=ANSWER_TOKENS,
            required=required,
        )

    async def put(self, *ids: BudgetId, amount_max: int = 10**15, currency: str = "USD") -> None:
        """Set budgets, and know them."""
        async with writing(self.keyring.engine) as connection:
            for id_ in ids:
                new = Budget(id=id_, currency=currency, amount_max=amount_max, warn_percent=80, created_ms=1)
                await table.put(connection, new)
        await self.keyring.refresh()

    async def reserved(self) -> list[tuple[str, BudgetId, int]]:
        """Request, budget and nanos of each reservation."""
        async with reading(self.keyring.engine) as connection:
            rows = (await connection.execute(RESERVATIONS.select())).mappings().all()
        return sorted((row["request_id"], BudgetId(*(row[n] for n in BudgetId._fields)), row["amount"]) for row in rows)

    async def nothing_reserved(self) -> bool:
        return not await self.reserved()

    @property
    def refused(self) -> float | None:
        return self.registry.get_sample_value("gateway_budget_refusals_total")


class Desks:
    """Opens them, each before the same database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[Desk] = []

    def __call__(self, *prices: Price, required: bool = False) -> Desk:
        self.opened.append(Desk(self.url, *prices, required=required))
        return self.opened[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, for each test to copy."""
    path = tmp_path_factory.mktemp("made") / "workernode.db"

    async def make() -> None:
        engine = database.open(f"sqlite+aiosqlite:///{path}")
        await upgrade(engine)
        await engine.dispose()

    asyncio.run(make())
    return path


@pytest.fixture
async def desks(made: Path, tmp_path: Path) -> AsyncIterator[Desks]:
    opening = Desks(f"sqlite+aiosqlite:///{shutil.copy(made, tmp_path)}")
    yield opening
    for desk in opening.opened:
        await until(lambda desk=desk: not len(desk.tasks))  # type: ignore[misc]
        await desk.keyring.aclose()


IMAGE = b'{"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,' + b"A" * 1000 + b'"}}]}]}'


@pytest.mark.parametrize(
    ("fields", "prices", "nanos"),
    [
        ({}, [price()], 1_000 + 1_000),
        ({"body": b"x" * 10}, [price(output=0)], 5_000),
        ({"body": b"x" * 11}, [price(output=0)], 6_000),
        ({"body": IMAGE, "images": 1}, [price(output=0)], (len(IMAGE) - 1022 + 1) // 2 * 1000 + 16_384_000),
        ({"images": 2}, [price(input=0, output=0, per_image=7)], 14),
        ({}, [price(input=0, output=0, per_image=7)], 0),
        ({"max_tokens": 30}, [price(input=0)], 30_000),
        ({"max_tokens": 30, "n": 3}, [price(input=0)], 90_000),
        ({"max_tokens": 30, "n": 3, "answers": 5}, [price(input=0)], 150_000),
        ({"max_tokens": None}, [price(input=0)], ANSWER_TOKENS * 1_000),
        ({"max_tokens": None, "endpoint": "embeddings"}, [price(output=None)], 1_000),
        ({}, [price(input=0, output=0, per_request=5)], 5),
        ({}, [price(cached_input=0, output=0)], 1_000),
        ({}, [price(cached_input=3 * DOLLAR, output=0)], 3_000),
        ({}, [price(input=0, reasoning=0)], 1_000),
        ({}, [price(input=0, reasoning=4 * DOLLAR)], 4_000),
        ({}, [price(cached_input=3 * DOLLAR, reasoning=4 * DOLLAR)], 7_000),
        ({}, [price(), price(provider="dear", output=9 * DOLLAR), price(provider="cheap", output=0)], 10_000),
        ({}, [price(), price(provider="elsewhere", currency="EUR", output=9 * DOLLAR)], 2_000),
        ({}, [price(), price(valid_from=RECEIVED_MS, output=2 * DOLLAR)], 3_000),
        ({}, [price(), price(valid_from=RECEIVED_MS + 1, output=2 * DOLLAR)], 2_000),
    ],
)
async def test_the_most_that_a_request_may_come_to_cost_is_reserved(
    desks: Desks, fields: dict[str, Any], prices: list[Price], nanos: int
) -> None:
    desk = desks(*prices)
    await desk.put(KEY)
    await desk.budgets.reserve(request(**fields))
    assert await desk.reserved() == [("req_1", KEY, nanos)]


async def test_every_budget_that_a_request_touches_is_reserved_in_its_own_currency(desks: Desks) -> None:
    desk = desks(price(input=0), price(provider="elsewhere", currency="EUR", input=0, output=2 * DOLLAR))
    model, tag = BudgetId("model", MODEL, "total"), BudgetId("tag", "team=search", "month")
    others = BudgetId("key", "other", "day"), BudgetId("model", "other", "day"), BudgetId("tag", "team=other", "day")
    await desk.put(KEY, model, *others)
    await desk.put(tag, currency="EUR")
    await desk.budgets.reserve(request(tags={"team": "search"}))
    assert await desk.reserved() == [("req_1", KEY, 1_000), ("req_1", model, 1_000), ("req_1", tag, 2_000)]


async def test_a_budget_is_full_to_its_last_billionth(desks: Desks) -> None:
    desk = desks()
    await desk.put(KEY, amount_max=4_000)
    await desk.budgets.reserve(request(1))
    with pytest.raises(InsufficientQuota, match=r"has no room .* It is 0.000004 USD, .* max_tokens bounds that"):
        await desk.budgets.reserve(request(2, max_tokens=2))
    await desk.budgets.reserve(request(3))
    assert [each for each, *_ in await desk.reserved()] == ["req_1", "req_3"]
    assert desk.refused == 1


@pytest.mark.parametrize(
    ("prices", "fields", "sentence"),
    [
        ([price(currency="EUR")], {}, "has no price in it"),
        ([price(output=None)], {}, "has no price in it"),
        ([price(), price(provider="half", input=None)], {}, "has no price in it"),
        ([price(valid_from=RECEIVED_MS + 1)], {}, "has no price in it"),
        ([price()], {"max_tokens": 2**31 - 1, "n": 10**3}, "has no room"),
    ],
)
async def test_what_cannot_be_reserved_is_refused(
    desks: Desks, prices: list[Price], fields: dict[str, Any], sentence: str
) -> None:
    desk = desks(*prices)
    await desk.put(KEY)
    with pytest.raises(InsufficientQuota, match=sentence):
        await desk.budgets.reserve(request(**fields))
    assert desk.refused == 1
    assert await desk.nothing_reserved()


async def test_a_request_without_an_end_holds_its_reservation_for_an_hour_after_its_deadline(desks: Desks) -> None:
    desk = desks()
    await desk.put(KEY)
    await desk.budgets.reserve(request())
    async with reading(desk.keyring.engine) as connection:
        (expires_ms,) = await connection.scalars(RESERVATIONS.select().with_only_columns(RESERVATIONS.c.expires_ms))
    assert expires_ms == DEADLINE_MS + 3_600_000


async def test_who_has_no_budget_asks_nobody(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Ask] = []
    monkeypatch.setattr(table, "reserve", lambda _, asks, __: asked.extend(asks))
    desk = desks()
    await desk.keyring.refresh()
    await desk.budgets.reserve(request())
    await desk.put(BudgetId("key", "other", "day"))
    await desk.budgets.reserve(request())
    assert asked == []


async def test_nobody_is_served_before_required_budgets_are_known(desks: Desks) -> None:
    desk = desks(required=True)
    with pytest.raises(BudgetsUnavailable) as unavailable:
        await desk.budgets.reserve(request())
    assert unavailable.value.retry_after_ms == 1000
    await desk.keyring.refresh()
    await desk.budgets.reserve(request())
    await desks().budgets.reserve(request())  # which are not required


async def test_those_that_wait_together_are_reserved_together_fifty_at_a_time(
    desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desks()
    await desk.put(KEY, amount_max=60 * 2_000)
    together: list[int] = []
    reserve = table.reserve

    async def counted(connection: Any, asks: Any, now_ms: int) -> Any:
        together.append(len(asks))
        return await reserve(connection, asks, now_ms)

    monkeypatch.setattr(table, "reserve", counted)
    asking = [asyncio.ensure_future(desk.budgets.reserve(request(number))) for number in range(120)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[:60] == [None] * 60
    assert [type(each) for each in answers[60:]] == [InsufficientQuota] * 60
    assert together == [50, 50, 20]


async def test_a_reservation_whose_client_goes_meanwhile_is_released(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(database_url)
    await upgrade(desk.keyring.engine)
    await desk.put(KEY)
    asked, go_on = asyncio.Event(), asyncio.Event()
    reserve = table.reserve

    async def slow(connection: Any, asks: Any, now_ms: int) -> Any:
        asked.set()
        await go_on.wait()
        return await reserve(connection, asks, now_ms)

    monkeypatch.setattr(table, "reserve", slow)
    leaving, staying = (asyncio.ensure_future(desk.budgets.reserve(request(number))) for number in (1, 2))
    await asked.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    if desk.keyring.engine.dialect.name == "postgresql":
        # Before anything is reserved it is released in vain; SQLite has one writer.
        await until(lambda: len(desk.tasks) == 1)
    go_on.set()
    await staying
    await until(lambda: not len(desk.tasks))
    assert [each for each, *_ in await desk.reserved()] == ["req_2"]
    await desk.keyring.aclose()


async def test_what_was_reserved_without_an_answer_is_released_and_the_next_request_is_reserved(
    desks: Desks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = desks()
    await desk.put(KEY)
    reserve = table.reserve

    async def lost(connection: Any, asks: Any, now_ms: int) -> Any:
        await reserve(connection, asks, now_ms)
        await connection.commit()
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(table, "reserve", lost)
        with pytest.raises(BudgetsUnavailable) as unavailable:
            await desk.budgets.reserve(request(1))
    assert unavailable.value.retry_after_ms == 1000
    assert 'action="budgets_unavailable" reason="ConnectionError"' in caplog.records[-1].message
    await until(desk.nothing_reserved)
    await desk.budgets.reserve(request(2))
    assert [each for each, *_ in await desk.reserved()] == ["req_2"]


async def test_a_database_that_says_nothing_is_waited_for_once_and_not_by_one_fifty_after_the_other(
    desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever comes while it is locked for long would wait longer and longer."""
    desk = desks()
    await desk.put(KEY)
    asked: list[int] = []
    released: list[int] = []

    async def silent(_: object, asks: Any, __: object) -> None:
        asked.append(len(asks))
        await asyncio.get_running_loop().create_future()

    async def release(_: object, request_ids: Any) -> None:
        released.append(len(request_ids))

    monkeypatch.setattr("gateway.keys.budgets.WAIT_S", 0.5)
    monkeypatch.setattr(table, "reserve", silent)
    monkeypatch.setattr(table, "release", release)
    asking = [asyncio.ensure_future(desk.budgets.reserve(request(number))) for number in range(120)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in answers] == [BudgetsUnavailable] * 120
    await until(lambda: not len(desk.tasks))
    assert (asked, released) == ([50], [50]), "nothing was reserved for those behind"


async def test_a_request_that_was_never_published_gives_back_what_was_reserved(desks: Desks) -> None:
    desk = desks()
    await desk.put(KEY)
    for number in (1, 2):
        await desk.budgets.reserve(request(number))
    desk.budgets.release("req_1")
    await until(lambda: not len(desk.tasks))
    assert [each for each, *_ in await desk.reserved()] == ["req_2"]


async def test_what_cannot_be_released_is_told(
    desks: Desks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = desks()
    await desk.put(KEY)
    await desk.budgets.reserve(request())

    async def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(table, "release", away)
    desk.budgets.release("req_1")
    await until(lambda: not len(desk.tasks))
    assert "What was reserved is held until it expires." in caplog.records[-1].message
