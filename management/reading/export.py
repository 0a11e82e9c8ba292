"""Charges and events for other systems, in the order of their positions: whoever has one goes on after it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import select

from store import amount
from store.database import reading
from store.money_tables import PRICED
from store.tables import CHARGES, EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine

PAGE_LINES = 500
MONEY = ("amount", "currency", "cost", "cost_currency", "price_version")
COLUMNS = (*(column.name for column in CHARGES.columns), *MONEY)
"""Of an exported charge, the position first."""
_AMOUNTS = frozenset(("amount", "cost"))


async def charges(engine: AsyncEngine, after: int, limit: int, *, as_csv: bool) -> AsyncIterator[str]:
    """Lines of charges behind a position, in parts; of CSV the first is that of the names."""
    head = csv_line(COLUMNS) if as_csv else ""
    async for page in _pages(engine, _charges_after, after, limit):
        shown = [_charge(row) for row in page]
        if as_csv:
            yield head + "".join(csv_line([_cell(row[name]) for name in COLUMNS]) for row in shown)
            head = ""
        else:
            yield "".join(f"{msgspec.json.encode(row).decode()}\n" for row in shown)
    if head:
        yield head


async def events(engine: AsyncEngine, after: int, limit: int) -> AsyncIterator[str]:
    """Lines of ``{"position": …, "event": …}``: the CloudEvents as they were told, each on one line."""
    async for page in _pages(engine, _events_after, after, limit):
        lines = ({"position": row["position"], "event": msgspec.Raw(_on_one_line(row["raw"]))} for row in page)
        yield "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines)


async def _pages(
    engine: AsyncEngine, statement: Callable[[int, int], Select[Any]], after: int, limit: int
) -> AsyncIterator[list[Any]]:
    while limit > 0:
        # A transaction for each page: a reader that takes its time must not hold one open.
        async with reading(engine) as connection:
            page = list((await connection.execute(statement(after, min(limit, PAGE_LINES)))).mappings())
        if not page:
            return
        yield page
        after, limit = page[-1]["position"], limit - len(page)


def _charges_after(position: int, limit: int) -> Select[Any]:
    statement = select(CHARGES, *(PRICED.c[name] for name in MONEY))
    statement = statement.outerjoin(PRICED, PRICED.c.position == CHARGES.c.position)
    return statement.where(CHARGES.c.position > position).order_by(CHARGES.c.position).limit(limit)


def _events_after(position: int, limit: int) -> Select[Any]:
    statement = select(EVENTS.c.position, EVENTS.c.raw).where(EVENTS.c.position > position)
    return statement.order_by(EVENTS.c.position).limit(limit)


def _on_one_line(raw: str) -> bytes:
    # A foreign node may tell its events indented. In JSON the ends of lines stand between tokens only.
    return raw.replace("\r", " ").replace("\n", " ").encode()


def _charge(row: Any) -> dict[str, Any]:
    shown = {
        name: amount.shown(value) if name in _AMOUNTS and value is not None else value for name, value in row.items()
    }
    return shown | {"tags": msgspec.json.decode(row["tags"]) if row["tags"] else {}}


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode() if value else ""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return safe_cell(text) if isinstance(value, str) else text


def safe_cell(text: str) -> str:
    """A text of a client's that no spreadsheet runs as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def csv_line(cells: Iterable[str]) -> str:
    """One line of CSV (RFC 4180)."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
