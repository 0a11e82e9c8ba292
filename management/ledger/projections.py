"""What the ledger makes of facts that are new: one row per charge, one per request that ended, one per node, sums by
day of usage and money, and what went wrong."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, collate, tuple_

from management.ledger.books import Priced, price
from management.ledger.facts import Unreadable, fact_of
from management.ledger.failure_sums import add_failures
from management.ledger.rollups import add_rolled_up
from management.ledger.sums import add_up, daily_money, daily_usage
from store.insertion import insert, insert_rows, row_of
from store.money_tables import MONEY_DAILY, PRICED, SPENT_DAILY
from store.tables import CHARGES, ENDS, NODES, USAGE_DAILY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection

    from management.ledger.books import Books
    from management.ledger.facts import Fact
    from management.ledger.sums import Row
    from store.ledger_state import LedgerState
    from store.prices import PriceList

NewFact = tuple[int, "Fact"]
"""A fact and its position among the events."""

_CHARGE, _END = row_of(CHARGES), row_of(ENDS)


async def project(
    connection: AsyncConnection,
    new: Sequence[NewFact],
    books: Books,
    state: LedgerState,
    lists: Mapping[int, PriceList] | None = None,
) -> list[Row]:
    """Carry new facts over into the projections. The caller sees to it that none comes twice, and commits.

    ``lists`` has the prices, by position, of what was priced before. Returns what was added to ``spent_daily``.
    """
    ends = [_END({"position": position, **end}) for position, end in weightiest_ends(new)]
    await insert_rows(connection, ENDS, ends, tell_end)
    charges = [_CHARGE({"position": position, **fact.charge}) for position, fact in new if fact.charge is not None]
    await insert_rows(connection, CHARGES, charges)
    usage = daily_usage((fact for _, fact in new), books)
    await insert_rows(connection, USAGE_DAILY, usage, add_up)
    await add_rolled_up(connection, state, USAGE_DAILY, usage)
    if nodes := latest_of_nodes(fact.node for _, fact in new if fact.node is not None):
        await connection.execute(tell_node(connection.dialect.name), nodes)
    await add_failures(connection, [fact.failure for _, fact in new if fact.failure is not None], books)
    return await project_money(connection, new, books, state, lists)


async def project_money(
    connection: AsyncConnection,
    new: Sequence[NewFact],
    books: Books,
    state: LedgerState,
    lists: Mapping[int, PriceList] | None = None,
) -> list[Row]:
    """Only those of money; see :func:`project`."""
    known = lists or {}
    priced: list[tuple[int, Fact, Priced]] = [
        (position, fact, price(fact.use, known.get(position, books.prices), is_charged=fact.charge is not None))
        for position, fact in new
        if fact.use is not None
    ]
    await insert_rows(connection, PRICED, [_priced_row(*one) for one in priced])
    money, spent = daily_money(((fact, worth) for _, fact, worth in priced), books)
    await insert_rows(connection, MONEY_DAILY, money, add_up)
    await add_rolled_up(connection, state, MONEY_DAILY, money)
    await insert_rows(connection, SPENT_DAILY, spent, add_up)
    return spent


def weightiest_ends(new: Iterable[NewFact]) -> list[tuple[int, dict[str, Any]]]:
    """One per request: its end with the lowest rank, then time, then event id. So no order of telling matters."""
    best: dict[str, tuple[int, dict[str, Any]]] = {}
    for position, fact in new:
        if (end := fact.end) is None:
            continue
        known = best.get(end["request_id"])
        if known is None or _weight(end) < _weight(known[1]):
            best[end["request_id"]] = position, end
    return [best[key] for key in sorted(best)]


def end_told(told: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How a request ended, by the rows of its events: for one whose own row is deleted before them."""
    facts = []
    for row in told:
        with contextlib.suppress(Unreadable):
            facts.append((row["position"], fact_of(row["raw"].encode())))
    return next((end for _, end in weightiest_ends(facts)), None)


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


def tell_end(dialect: str, table: Table) -> Insert:
    """Write how a request ended, unless a weightier end is known."""
    statement = insert(dialect, table)
    told = statement.excluded
    # By code points, as Python compares, and not by the rules of a language.
    by_bytes = "C" if dialect == "postgresql" else "BINARY"

    def weight(end: Any) -> ColumnElement[Any]:
        return tuple_(end.rank, end.time_ms, collate(end.event_id, by_bytes))

    return statement.on_conflict_do_update(
        index_elements=["request_id"],
        set_={column.name: told[column.name] for column in table.columns if not column.primary_key},
        where=weight(told) < weight(table.c),
    )


@cache
def tell_node(dialect: str) -> Insert:
    """Write what was told about a node, unless something later is known already."""
    statement = insert(dialect, NODES)
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


def _priced_row(position: int, fact: Fact, worth: Priced) -> Row:
    amounts = (worth.amount, worth.currency, worth.cost, worth.cost_currency)
    return position, fact.event["time_ms"], worth.version, *amounts
