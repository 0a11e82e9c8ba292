"""From the results topic to the ledger, over everything that may go wrong between them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import pickle
import re
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, event, func, select

import management.metrics
import management.role
from broker.interface import PAYLOAD_BYTES_MAX
from broker.memory import MemoryBroker
from management.ledger.books import Books
from management.ledger.journal import read, write
from management.ledger.opening import open_books
from management.ledger.rebuild import rebuild
from management.retention import sweep
from management.settings import Retention
from store import database
from store.database import reading, writing
from store.ledger_state import alone
from store.migrate import upgrade
from store.tables import EVENTS, USAGE_DAILY
from tests import sqlite_file
from tests.billing import NOON_MS, billed
from tests.counting_house import CountingHouse
from tests.missing import missing
from tests.postgres_server import PostgresMissing, PostgresServer
from tests.waiting import until
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.ledger.journal import Entry, Written


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    house = CountingHouse(tmp_path)
    yield house
    await house.end()


async def test_what_was_told_while_management_was_away_is_charged_when_it_is_back(house: CountingHouse) -> None:
    await house.publish(*(billed(number) for number in range(50)))
    await house.start()
    await house.settled()
    assert await house.counted() == (50, 50)


async def test_the_lag_is_told_while_nothing_can_be_stored_and_not_for_ever(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lag_s() -> float:
        _, shown = await house.get("/metrics")
        return float(re.findall(r"(?m)^ledger_lag_seconds (\S+)", shown)[0])

    async def lags() -> bool:
        return await lag_s() > 3600

    await house.start()
    assert await lag_s() == 0
    with contextlib.closing(await sqlite_file.locked(house.path)):
        hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        await house.publish(billed(1, time=hour_ago.isoformat()))
        await until(lags)
    await house.settled()
    await until(lags)
    monkeypatch.setattr(management.metrics, "LAG_SHOWN_S", 0.0)
    assert await lag_s() == 0


async def test_the_ledger_survives_a_restart(house: CountingHouse) -> None:
    for round_ in range(3):
        await house.start()
        await house.publish(*(billed(number) for number in range(round_ * 10, round_ * 10 + 20)))
        await house.settled()
        await house.end()
    assert await house.counted() == (40, 40)


async def test_a_kill_between_the_commit_and_the_acknowledgement_charges_once(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = asyncio.Event()

    async def commit_and_hang(engine: AsyncEngine, entries: Sequence[Entry], now_ms: int, books: Books) -> Written:
        await write(engine, entries, now_ms, books)
        committed.set()
        await asyncio.Event().wait()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(management.role, "write", commit_and_hang)
        await house.publish(*(billed(number) for number in range(5)))
        await house.start()
        await asyncio.wait_for(committed.wait(), 10)
        counted_before = await house.counted()
        await house.kill()
    assert counted_before[0] > 0
    assert house.ledger.backlog == 5
    await house.start()
    await house.settled()
    assert await house.counted() == (5, 5)


async def test_what_is_no_event_is_quarantined_and_the_next_good_one_works(house: CountingHouse) -> None:
    negative = billed(1, usage=Usage(prompt_tokens=77)).replace(b":77", b":-7")
    huge = billed(2, usage=Usage(prompt_tokens=77)).replace(b":77", b":%d" % 2**63)
    bad = [b"\xff\x00garbage", pickle.dumps(os.environ.copy()), negative, huge, b"x" * PAYLOAD_BYTES_MAX, b""]
    await house.start()
    await house.publish(*bad, billed(3), bad[0])
    await house.settled()
    assert await house.counted() == (1, 1)
    _, metrics = await house.get("/metrics")
    assert 'ledger_quarantined_total{reason="not_an_event"} 4.0' in metrics
    assert 'ledger_quarantined_total{reason="wrong_data"} 2.0' in metrics
    assert 'ledger_quarantined_total{reason="too_large"} 1.0' in metrics
    assert 'ledger_events_total{type="request.billed"} 1.0' in metrics
    with sqlite3.connect(house.path) as connection:
        assert connection.execute("SELECT count(*), sum(count) FROM quarantine").fetchone() == (6, 7)
    connection.close()


async def test_while_the_database_is_locked_nothing_is_acknowledged_and_then_all_goes_on(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    await house.start()
    other = await sqlite_file.locked(house.path)
    await house.publish(*(billed(number) for number in range(5)))
    await until(lambda: _not_ready(house, "The database cannot be written at the moment."))
    assert house.ledger.held + house.ledger.backlog == 5
    other.execute("ROLLBACK")
    other.close()
    await house.settled()
    assert (await house.get("/readyz"))[0] == 200
    assert await house.counted() == (5, 5)


async def test_a_full_disk_loses_nothing_and_it_goes_on_when_there_is_room(house: CountingHouse) -> None:
    full = True

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {150 if full else 1_000_000}")

    event.listen(Engine, "begin", limit)
    try:
        await house.start()
        await house.publish(*(billed(number) for number in range(600)))
        await until(lambda: _not_ready(house, "The database cannot be written at the moment."))
        left = house.ledger.held + house.ledger.backlog
        charges, requests = await house.counted()
        assert left >= 600 - charges > 0
        assert charges == requests
        full = False
        await house.settled()
    finally:
        event.remove(Engine, "begin", limit)
    assert await house.counted() == (600, 600)


async def test_a_stop_finishes_the_batch_that_was_received(house: CountingHouse) -> None:
    await house.start(LEDGER_BATCH_MS_MAX="10000", LEDGER_PREFETCH_EVENTS="1")
    await house.publish(*(billed(number) for number in range(7)))
    await until(lambda: house.ledger.held == 7)
    await house.end()
    charges, requests = await house.counted()
    # The seventh was only sent ahead; it may stay in the topic, but then it is not charged.
    assert charges == requests == 7 - house.ledger.backlog
    assert charges >= 6


async def test_a_stop_without_a_database_leaves_the_batch_in_the_topic(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    await house.start()
    other = await sqlite_file.locked(house.path)
    await house.publish(billed(1))
    await until(lambda: _not_ready(house, "The database cannot be written at the moment."))
    await house.end()
    other.close()
    assert house.ledger.backlog == 1


async def test_it_starts_without_a_broker_and_says_so_until_there_is_one(house: CountingHouse) -> None:
    await house.publish(billed(1))
    house.server.set_available(False)
    await house.start(wait=False)
    await until(lambda: _not_ready(house, "The broker cannot be reached at the moment."))
    assert (await house.get("/livez"))[0] == 200
    assert (await house.get("/api/v1/charges"))[1]["data"] == []
    house.server.set_available(True)
    await asyncio.wait_for(house.ready.wait(), 10)
    await house.settled()
    assert await house.counted() == (1, 1)
    house.server.set_available(False)
    await until(lambda: _not_ready(house, "The broker cannot be reached."))


async def test_it_starts_without_a_database_and_says_so(house: CountingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    other = await sqlite_file.locked(house.path, "EXCLUSIVE")
    await house.start(wait=False)
    await until(
        lambda: _not_ready(house, "The database cannot be opened yet, or its tables are still brought up to date."),
        within_s=20,
    )
    other.close()
    await asyncio.wait_for(house.ready.wait(), 20)


async def test_a_consumer_that_is_closed_under_the_ledger_is_opened_again(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("management.ledger.consumer.REOPEN_S", 0.01)
    await house.start()
    for consumer in list(house._broker.consumers):
        await consumer.aclose()
    await house.publish(billed(1))
    await house.settled()
    assert await house.counted() == (1, 1)


async def test_a_second_management_takes_over_and_nothing_is_charged_twice(
    house: CountingHouse, tmp_path: Path
) -> None:
    second = CountingHouse(tmp_path)
    second.server = house.server
    second._outside = MemoryBroker(house.server)
    await house.start()
    await second.start()
    await house.publish(*(billed(number) for number in range(20)))
    await house.settled()
    await house.kill()
    await second.publish(*(billed(number) for number in range(10, 30)))
    await second.settled()
    assert await second.counted() == (30, 30)
    await second.end()


def test_a_terminated_process_ends_in_order(tmp_path: Path) -> None:
    environment = {**os.environ, "PULSAR_URL": "memory:", "MANAGEMENT_PORT": "0"}
    environment["DATABASE_URL"] = f"sqlite+aiosqlite:///{tmp_path}/data/ledger.db"
    process = subprocess.Popen([sys.executable, "-m", "management"], env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = [""]
    while "Management listens." not in told[-1]:
        told.append(process.stderr.readline())
        assert told[-1], "it ended before it listened"
    assert any("reaches nobody outside this process" in line for line in told)
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0
    assert '"message": "Management has ended.", "action": "ended"' in rest


def test_a_wrong_path_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "PULSAR_URL": "memory:", "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}"}
    ended = subprocess.run(
        [sys.executable, "-m", "management"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert f"DATABASE_URL: the file {tmp_path} cannot be written (it is a directory)." in ended.stderr
    assert "Traceback" not in ended.stderr


async def _not_ready(house: CountingHouse, sentence: str) -> bool:
    status, answer = await house.get("/readyz")
    return status == 503 and sentence in answer["reasons"]


async def test_a_server_that_is_gone_for_a_while_loses_nothing(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
    except PostgresMissing as absent:
        missing(f"There is no PostgreSQL: {absent}.")
    house = CountingHouse(tmp_path)
    house.url = server.new_database()
    try:
        await house.start()
        await house.publish(*(billed(number) for number in range(20)))
        await house.settled()
        await asyncio.to_thread(server.kill)
        await house.publish(*(billed(number) for number in range(10, 40)))
        await until(lambda: _not_ready(house, "The database cannot be written at the moment."), within_s=20)
        assert house.ledger.held + house.ledger.backlog == 30
        await asyncio.to_thread(server.start)
        await until(lambda: house.ledger.backlog == 0 and house.ledger.held == 0, within_s=30)
        assert await house.counted() == (40, 40)
    finally:
        await house.end()
        await asyncio.to_thread(server.stop)


async def test_what_is_told_during_a_rebuild_and_a_sweep_is_counted_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 60_000)  # none of the three tries again
    books = Books()
    engine = database.open(database_url)
    await upgrade(engine)
    await open_books(engine, books, 1)
    told = [read(billed(number, key_id=f"key-{number % 7}")) for number in range(600)]
    # What these days keep away is deleted while the rest is made anew.
    told += [read(billed(number, time="2026-02-01T12:00:00Z")) for number in range(600, 700)]
    await write(engine, [*told[600:], *told[:100]], 1, books)

    async def tell() -> None:
        for start in range(100, 600, 10):
            await write(engine, told[start : start + 10], 1, books)

    telling = asyncio.create_task(tell())
    await asyncio.gather(rebuild(engine, books), sweep(engine, Retention(events_days=10), books, NOON_MS))
    await asyncio.gather(telling, rebuild(engine, books))
    async with reading(engine) as connection:
        assert await connection.scalar(select(func.count()).select_from(EVENTS)) == 600
        rows = (
            await connection.execute(select(USAGE_DAILY.c.day, func.sum(USAGE_DAILY.c.requests)).group_by("day"))
        ).all()
    assert sorted((day.isoformat(), int(count)) for day, count in rows) == [("2026-02-01", 100), ("2026-03-01", 600)]
    await engine.dispose()


async def test_a_database_that_hangs_is_told_and_holds_up_no_stop(
    house: CountingHouse, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("management.persistence.SLOW_S", 0.1)
    house.url = postgres_url
    await house.start()
    engine = database.open(postgres_url)
    async with writing(engine) as connection:
        await alone(connection)
        await house.publish(billed(1))
        await until(lambda: _not_ready(house, "The database cannot be written at the moment."))
        await house.end()
    await engine.dispose()
    assert house.ledger.backlog == 1
    await house.start()
    await house.settled()
    assert await house.counted() == (1, 1)


async def test_two_ledgers_that_write_at_once_count_nothing_twice(database_url: str) -> None:
    books = Books()
    engines = [database.open(database_url) for _ in range(2)]
    await upgrade(engines[0])
    await open_books(engines[0], books, 1)
    told = [read(billed(number, tags={"team": "search"})) for number in range(200)]

    async def tell(engine: AsyncEngine, entries: list[Entry]) -> int:
        stored = 0
        for start in range(0, len(entries), 20):
            stored += (await write(engine, entries[start : start + 20], 1, books)).stored.total()
        return stored

    stored = await asyncio.gather(tell(engines[0], told), tell(engines[1], told[::-1]))
    assert sum(stored) == 200
    async with reading(engines[0]) as connection:
        rows = (await connection.execute(select(USAGE_DAILY.c.tag, USAGE_DAILY.c.requests))).all()
        positions = list(await connection.scalars(select(EVENTS.c.position).order_by(EVENTS.c.position)))
    assert sorted(map(tuple, rows)) == [("", 200), ("team=search", 200)]
    assert len(positions) == 200
    for engine in engines:
        await engine.dispose()
