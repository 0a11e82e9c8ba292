"""Pages over ten thousand rows: every row is on one page, in order, whatever is stored meanwhile."""

from __future__ import annotations

import datetime
import html
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from sqlalchemy import insert

from management.ledger.books import Books
from management.ledger.rollups import add_rolled_up
from process.identity import now_ms
from store import database
from store.database import writing
from store.insertion import insert_rows, row_of
from store.ledger_state import state_of
from store.tables import API_KEYS, ENDS, EVENTS, USAGE_DAILY
from tests.billing import billed, event, request_data, request_id_of
from tests.counting_house import CountingHouse
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROWS = 10_000
ERRORS = 2_000
FAR = 10**6
"""No event of the ledger comes to such a position here."""
KEYS = 1_000
NEXT = re.compile(r'<a class="button"(?: rel="next")? href="([^"]+)">(?:Older|More|More keys) →')
REQUEST = re.compile(r'href="/requests/(req_[0-9a-f]+)"')


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    house = CountingHouse(tmp_path)
    await house.start()
    yield house
    await house.end()


async def fill(house: CountingHouse, day: datetime.date) -> None:
    """Many of everything that is listed. Of ten rows each, the times are the same."""
    engine = database.open(house.url)
    common = {"model": "small", "key_id": "key-a", "node": "node-a"}
    async with writing(engine) as connection:
        ends = [
            {"request_id": request_id_of(number), "position": FAR + number, "rank": 2, "event_id": f"failed-{number}",
             "status": ("failed", "dead")[number % 2], "time_ms": 1_790_000_000_000 + number // 10, **common}
            for number in range(1, ROWS + 1)
        ]  # fmt: skip
        await connection.execute(insert(ENDS), ends)
        events = [
            {"event_id": f"failed-{number}", "type": PREFIX + ("request.failed", "request.expired")[number % 2],
             "time_ms": 1_790_000_000_000, "stored_ms": 1, "source": "n", "subject": "s",
             "request_id": request_id_of(number), "model": "small", "node": "node-a", "key_id": "key-a",
             "raw": event(f"failed-{number}", "request.failed", request_data(number, status="failed")).decode()}
            for number in range(1, ERRORS + 1)
        ]  # fmt: skip
        await connection.execute(insert(EVENTS), events)
        keys = [
            {"name": f"key-{number:05}", "generation": 1, "digest": f"{number:064x}", "prefix": "sk", "created_ms": 1}
            for number in range(KEYS)
        ]
        await connection.execute(insert(API_KEYS), keys)
        used = [
            {"tag": "", "day": day, "model": "small", "key_id": f"key-{number:05}", "node": "",
             "requests": 1 + number % 7,
             "prompt_tokens": number % 11, "completion_tokens": 1, "estimated_requests": 0, "cached_tokens": 0,
             "reasoning_tokens": 0, "body_bytes": 0, "answer_bytes": 0}
            for number in range(KEYS)
        ]  # fmt: skip
        rows = list(map(row_of(USAGE_DAILY), used))
        await insert_rows(connection, USAGE_DAILY, rows)
        await add_rolled_up(connection, await state_of(connection), USAGE_DAILY, rows)
    await engine.dispose()


class Walk:
    """Goes from page to page by the links that people press."""

    def __init__(self, house: CountingHouse, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{house.port}"
        self._session = session

    async def page(self, path: str) -> str:
        async with self._session.get(self._url + path) as response:
            assert response.status == 200, path
            return await response.text()

    async def all(self, path: str, what: re.Pattern[str]) -> list[str]:
        found: list[str] = []
        seen: set[str] = set()
        following: str | None = path
        while following is not None:
            assert following not in seen
            seen.add(following)
            page = await self.page(following)
            shown = what.findall(page)
            assert shown, f"{following} has nothing"
            found += shown
            link = NEXT.search(page)
            following = html.unescape(link[1]) if link else None
        return found


async def test_every_row_is_on_one_page_whatever_comes_meanwhile(house: CountingHouse) -> None:
    await fill(house, Books().day(now_ms()))
    wanted = [request_id_of(number) for number in range(ROWS, 0, -1)]
    async with aiohttp.ClientSession() as session:
        walk = Walk(house, session)
        first = await walk.page("/requests")
        link = NEXT.search(first)
        assert link
        await house.publish(*(billed(ROWS + number, time="2027-03-01T12:00:00Z") for number in range(1, 8)))
        await house.settled()
        rest = await walk.all(html.unescape(link[1]), REQUEST)
        assert REQUEST.findall(first) + rest == wanted
        assert await walk.all("/dead-letters", REQUEST) == [id_ for id_ in wanted if int(id_[4:], 16) % 2]
        assert await walk.all("/errors?of=requests", REQUEST) == wanted[-ERRORS:]
        names = [f"key-{number:05}" for number in range(KEYS)]
        assert await walk.all("/keys", re.compile(r'href="/requests\?key_id=(key-\d+)"')) == names
        shown = await walk.all("/usage?by=key", re.compile(r">(key-\d{5})<"))
        # The first page's chart tells its five largest once more.
        assert sorted(shown[5:]) == names
        csv = await walk.page("/usage.csv?by=key")
        assert len(csv.splitlines()) == KEYS + 1


async def test_every_day_of_a_year_is_on_one_page(house: CountingHouse) -> None:
    now = datetime.datetime.now(datetime.UTC)
    days = [now - datetime.timedelta(days=number) for number in range(120)]
    await house.publish(*(billed(number, time=day.isoformat()) for number, day in enumerate(days)))
    await house.settled()
    async with aiohttp.ClientSession() as session:
        shown = await Walk(house, session).all("/usage?by=day&days=365", re.compile(r'head">\s*(\d{4}-\d\d-\d\d)'))
    assert shown == [day.date().isoformat() for day in days]
