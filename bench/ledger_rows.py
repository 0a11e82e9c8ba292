"""A ledger of many rows, fast: some thousand events are written as management does, then copied inside the database.

The copies have ids of their own and are spread over :data:`DAYS` days; indexes and sums are made at the end.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from management.ledger.books import Books
from management.ledger.journal import read, write
from management.ledger.opening import open_books
from process.identity import now_ms
from store import database
from store.migrate import upgrade
from store.prices import Price, PriceList
from wire import codec
from wire.event import PREFIX, Event, RequestData, Times, charge_id
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = 10_000
DAYS = 90
FIRST = datetime(2026, 6, 1, tzinfo=UTC)
KEYS, MODELS, NODES, TEAMS = 100, 5, 3, 10
"""Nodes of each model."""
ERRORS, BAD_DAYS = 40, 7
FAILURES = ERRORS * MODELS * KEYS * BAD_DAYS
"""A bad week: every error of every model and key on every day."""
PRICES = PriceList(
    [Price(model=f"model-{model}", currency="USD", input=2_500_000_000, output=10**10) for model in range(MODELS)],
    [Price(model=f"model-{model}", currency="USD", input=10**9, output=4 * 10**9) for model in range(MODELS)],
)
TABLES = ("events", "charges", "ends", "priced")


def charge(request_id: str, chance: random.Random, time_ms: int) -> bytes:
    """A charge as nodes tell it, of a random key and model."""
    model, team = chance.randrange(MODELS), chance.randrange(TEAMS)
    node = f"node-{model}-{chance.randrange(NODES)}-0123456789abcdef"
    usage = Usage(prompt_tokens=chance.randrange(1, 4000), completion_tokens=chance.randrange(1, 1000))
    data = RequestData(
        request_id=request_id,
        endpoint="chat/completions",
        model=f"model-{model}",
        status="answered",
        stream=True,
        attempt_id=f"att_{chance.randbytes(12).hex()}",
        attempt=1,
        usage=usage,
        times=Times(
            received_ms=time_ms - 900,
            published_ms=time_ms - 898,
            taken_ms=time_ms - 890,
            first_token_ms=time_ms - 600,
            last_token_ms=time_ms - 5,
            settled_ms=time_ms,
        ),
        finish_reason="stop",
        key_id=f"key-{chance.randrange(KEYS)}",
        user_agent="OpenAI/Python 2.0",
        node=node,
        node_type="remote",
        host="host-1",
        version="0.1.0",
        upstream_model="upstream",
        provider="api.provider.example",
        body_bytes=1234,
        answer_bytes=5678,
        n=1,
        max_tokens=1024,
        tags={"team": f"team-{team}"},
    )
    return codec.encode_event(
        Event(
            id=charge_id(request_id),
            source=f"/nodes/{node}",
            type=f"{PREFIX}request.billed",
            time=datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            subject=request_id,
            data=codec.encode_event_data(data),
        )
    )


def failure(number: int, chance: random.Random, now_ms: int) -> bytes:
    """The end of a request that failed, one of :data:`FAILURES`: each is of another error, model, key or day."""
    rest, code = divmod(number, ERRORS)
    rest, model = divmod(rest, MODELS)
    days, key = divmod(rest, KEYS)
    request_id = f"req_{chance.randbytes(16).hex()}"
    data = RequestData(
        request_id=request_id,
        endpoint="chat/completions",
        model=f"model-{model}",
        status="failed",
        error_code=f"code_{chr(97 + code // 26)}{chr(97 + code % 26)}",
        key_id=f"key-{key}",
        provider="api.provider.example",
    )
    return codec.encode_event(
        Event(
            id=f"failed-{request_id}",
            source="/gateways/gateway-0123456789abcdef",
            type=f"{PREFIX}request.failed",
            time=datetime.fromtimestamp(now_ms / 1000 - days * 86_400, UTC).isoformat(timespec="milliseconds"),
            subject=request_id,
            data=codec.encode_event_data(data),
        )
    )


def fill(path: Path, rows: int, told: Callable[[str], None]) -> None:
    """Make a ledger of so many charges, each with its event, its end and its price."""
    asyncio.run(_base(path))
    copies = max(1, rows // BASE)
    step_ms = DAYS * 86_400_000 // copies
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-2000000")
    indexes = connection.execute(
        f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN {TABLES}"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    columns = {table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] for table in TABLES}
    connection.execute("BEGIN")
    for copy in range(1, copies):
        _copy(connection, columns, copy, copy * step_ms)
        if copy % 100 == 0:
            told(f"{copy * BASE} rows")
    connection.execute("COMMIT")
    for name, sql in indexes:
        told(f"index {name}")
        connection.execute(sql)
    told("sums")
    _sum(connection)
    connection.close()
    told("rollups")
    asyncio.run(_roll_up(path))


async def _base(path: Path) -> None:
    chance = random.Random(4711)
    books = Books(prices=PRICES)
    engine = database.open(f"sqlite+aiosqlite:///{path}")
    await upgrade(engine)
    await open_books(engine, books, 1)
    span = timedelta(days=DAYS) // BASE
    times = [int((FIRST + number * span / 1000).timestamp() * 1000) for number in range(BASE)]
    events = [charge(f"req_{time_ms:012x}{chance.randbytes(10).hex()}", chance, time_ms) for time_ms in times]
    for start in range(0, BASE, 500):
        await write(engine, [read(event) for event in events[start : start + 500]], 1, books)
    await engine.dispose()


def _copy(connection: sqlite3.Connection, columns: dict[str, list[str]], copy: int, shift_ms: int) -> None:
    first = copy * BASE
    new = {"position": f"position + {first}", "time_ms": f"time_ms + {shift_ms}", "request_id": "new_id"}
    events = new | {
        "event_id": "'charge-' || new_id",
        "subject": "new_id",
        "raw": "replace(raw, request_id, new_id)",
    }
    connection.execute(
        f"WITH fresh AS MATERIALIZED (SELECT events.*, printf('req_%012x', time_ms + {shift_ms}) || "
        "lower(hex(randomblob(10))) AS new_id FROM events "
        f"WHERE position <= {BASE}) INSERT INTO events SELECT "
        + ", ".join(events.get(name, name) for name in columns["events"])
        + " FROM fresh"
    )
    for table in ("charges", "ends", "priced"):
        changed = {
            "position": f"{table}.position + {first}",
            "time_ms": f"{table}.time_ms + {shift_ms}",
            "request_id": "events.request_id",
            "event_id": "events.event_id",
        }
        connection.execute(
            f"INSERT INTO {table} SELECT "
            + ", ".join(changed.get(name, f"{table}.{name}") for name in columns[table])
            + f" FROM {table} JOIN events ON events.position = {table}.position + {first} "
            f"WHERE {table}.position <= {BASE}"
        )


def _sum(connection: sqlite3.Connection) -> None:
    # One pass over the wide rows; all sums are made of narrow ones.
    connection.execute(
        "CREATE TEMPORARY TABLE narrow AS SELECT date(charges.time_ms / 1000, 'unixepoch') AS day, model, key_id, "
        "node, provider, currency, cost_currency, 'team=' || json_extract(tags, '$.team') AS team, "
        "count(*) AS requests, sum(estimated) AS estimated, sum(prompt_tokens) AS prompt, "
        "sum(completion_tokens) AS completion, "
        "sum(cached_tokens) AS cached, sum(reasoning_tokens) AS reasoning, sum(body_bytes) AS body, "
        "sum(answer_bytes) AS answer, sum(amount) AS amount, sum(cost) AS cost "
        "FROM charges JOIN priced USING (position) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    )
    for table in ("usage_daily", "money_daily", "spent_daily"):
        connection.execute(f"DELETE FROM {table}")
    names = ("requests", "estimated", "prompt", "completion", "cached", "reasoning", "body", "answer")
    usage = ", ".join(f"sum({name})" for name in names)
    place, tokens = "day, model, key_id, node, provider", "sum(requests), sum(prompt + completion)"
    by = "FROM narrow GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    for tag in ("''", "team"):
        connection.execute(
            f"INSERT INTO usage_daily SELECT {tag}, day, model, key_id, node, {usage} FROM narrow "
            "GROUP BY 1, 2, 3, 4, 5"
        )
        connection.execute(
            f"INSERT INTO money_daily SELECT {tag}, 'charge', {place}, currency, {tokens}, sum(amount) {by}"
        )
    connection.execute(f"INSERT INTO money_daily SELECT '', 'cost', {place}, cost_currency, {tokens}, sum(cost) {by}")
    for scope, subject in (("key", "key_id"), ("model", "model"), ("tag", "team")):
        connection.execute(
            f"INSERT INTO spent_daily SELECT '{scope}', {subject}, currency, day, sum(amount) "
            "FROM narrow GROUP BY 1, 2, 3, 4"
        )


async def _roll_up(path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{path}")
    await open_books(engine, Books(prices=PRICES), now_ms())
    await engine.dispose()
