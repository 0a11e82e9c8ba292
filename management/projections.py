"""What the ledger makes of facts that are new: one row per charge, one per request that ended, one per node, sums by
day of usage and money, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, collate, insert, tuple_

from management.books import Priced, price
from management.failure_sums import add_failures
from management.rollups import rolled_up
from management.sums import add_up, daily_money, daily_usage
from store.insertion import insert as insert_or
from store.money_tables import MONEY_DAILY, MONEY_ROLLUP, PRICED, SPENT_DAILY
from store.tables import CHARGES, ENDS, NODES, USAGE_DAILY, USAGE_ROLLUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection

    from management.books import Books
    from management.facts import Fact
    from store.prices import PriceList

NewFact = tuple[int, "Fact"]
"""A fact and its position among the events."""


async def project(
    connection: AsyncConnection,
    new: Sequence[NewFact],
    books: Books,
    lists: Mapping[int, PriceList] | None = None,
) -> list[dict[str, Any]]:
    """Carry new facts over into the projections. The caller sees to it that none comes twice, and commits.

    ``lists`` has the prices, by position, of what was priced before. Returns what was added to ``spent_daily``.
    """
    dialect = connection.dialect.name
    charges = [{"position": position, **fact.charge} for position, fact in new if fact.charge is not None]
    if ends := weightiest_ends(new):
        await connection.execute(tell_end(dialect), ends)
    if charges:
        await connection.execute(insert(CHARGES), charges)
        usage = daily_usage((fact for _, fact in new), books)
        await connection.execute(add_up(dialect, USAGE_DAILY), usage)
        await connection.execute(add_up(dialect, USAGE_ROLLUP), rolled_up(usage, USAGE_ROLLUP))
    if nodes := latest_of_nodes(fact.node for _, fact in new if fact.node is not None):
        await connection.execute(tell_node(dialect), nodes)
    await add_failures(connection, [fact.failure for _, fact in new if fact.failure is not None], books)
    return await project_money(connection, new, books, lists)


async def project_money(
    connection: AsyncConnection,
    new: Sequence[NewFact],
    books: Books,
    lists: Mapping[int, PriceList] | None = None,
) -> list[dict[str, Any]]:
    """Only those of money; see :func:`project`."""
    dialect, known = connection.dialect.name, lists or {}
    priced: list[tuple[int, Fact, Priced]] = [
        (position, fact, price(fact.use, known.get(position, books.prices), is_charged=fact.charge is not None))
        for position, fact in new
        if fact.use is not None
    ]
    if not priced:
        return []
    await connection.execute(insert(PRICED), [_priced_row(*one) for one in priced])
    money, spent = daily_money(((fact, worth) for _, fact, worth in priced), books)
    await connection.execute(add_up(dialect, MONEY_DAILY), money)
    await connection.execute(add_up(dialect, MONEY_ROLLUP), rolled_up(money, MONEY_ROLLUP))
    if spent:
        await connection.execute(add_up(dialect, SPENT_DAILY), spent)
    return spent


def weightiest_ends(new: Iterable[NewFact]) -> list[dict[str, Any]]:
    """One row per request: its end with the lowest rank, then time, then event id. So no order of telling matters."""
    best: dict[str, dict[str, Any]] = {}
    for position, fact in new:
        if (end := fact.end) is None:
            continue
        known = best.get(end["request_id"])
        if known is None or _weight(end) < _weight(known):
            best[end["request_id"]] = {"position": position, **end}
    return [best[key] for key in sorted(best)]


def latest_of_nodes(nodes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per node: what was told last about it, and when it was first heard of."""
    latest: dict[str, dict[str, Any]] = {}
    for node in nodes:
        known = latest.get(node["node"])
        if known is None:
            latest[node["node"]] = node
            continue
        last = node if node["last_ms"] >= known["last_ms"] else known
        latest[node["node"]] = last | {"first_ms": min(node["first_ms"], known["first_ms"])}
    return [latest[key] for key in sorted(latest)]


def tell_end(dialect: str) -> Insert:
    """Write how a request ended, unless a weightier end is known."""
    statement = insert_or(dialect, ENDS)
    told = statement.excluded
    # By code points, as Python compares, and not by the rules of a language.
    by_bytes = "C" if dialect == "postgresql" else "BINARY"

    def weight(end: Any) -> ColumnElement[Any]:
        return tuple_(end.rank, end.time_ms, collate(end.event_id, by_bytes))

    return statement.on_conflict_do_update(
        index_elements=["request_id"],
        set_={column.name: told[column.name] for column in ENDS.columns if not column.primary_key},
        where=weight(told) < weight(ENDS.c),
    )


def tell_node(dialect: str) -> Insert:
    """Write what was told about a node, unless something later is known already."""
    statement = insert_or(dialect, NODES)
    told = statement.excluded
    is_later = told.last_ms >= NODES.c.last_ms
    changes = {
        column.name: case((is_later, told[column.name]), else_=column)
        for column in NODES.columns
        if column.name not in ("node", "first_ms")
    }
    changes["first_ms"] = case((told.first_ms < NODES.c.first_ms, told.first_ms), else_=NODES.c.first_ms)
    return statement.on_conflict_do_update(index_elements=["node"], set_=changes)


def _weight(end: dict[str, Any]) -> tuple[int, int, str]:
    return end["rank"], end["time_ms"], end["event_id"]


def _priced_row(position: int, fact: Fact, worth: Priced) -> dict[str, Any]:
    return {
        "position": position,
        "time_ms": fact.event["time_ms"],
        "price_version": worth.version,
        "amount": worth.amount,
        "currency": worth.currency,
        "cost": worth.cost,
        "cost_currency": worth.cost_currency,
    }
