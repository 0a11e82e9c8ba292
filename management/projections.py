"""What the ledger sums up, from facts that are new: one row per charge, one per request that ended, one
per day and customer, one per node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, insert

from management.facts import Fact, day_of
from store.insertion import insert as insert_or
from store.tables import CHARGES, ENDS, NODES, USAGE_DAILY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection

NewFact = tuple[int, Fact]
"""A fact and its position among the events."""

USAGE_KEYS = tuple(column.name for column in USAGE_DAILY.primary_key.columns)
USAGE_SUMS = tuple(column.name for column in USAGE_DAILY.columns if not column.primary_key)
_CHARGE_SUMS = tuple(name for name in USAGE_SUMS if name in CHARGES.c)


async def project(connection: AsyncConnection, new: Sequence[NewFact]) -> None:
    """Carry new facts over into the projections. The caller sees to it that none comes twice, and commits."""
    charges = [{"position": position, **fact.charge} for position, fact in new if fact.charge is not None]
    nodes = latest_of_nodes(fact.node for _, fact in new if fact.node is not None)
    ends = first_ends(new)
    dialect = connection.dialect.name
    if ends:
        await connection.execute(tell_end(dialect), ends)
    if charges:
        await connection.execute(insert(CHARGES), charges)
        await connection.execute(add_usage(dialect), daily_usage(charges))
    if nodes:
        await connection.execute(tell_node(dialect), nodes)


def daily_usage(charges: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ``usage_daily`` that these charges add up to."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for charge in charges:
        day = day_of(charge["time_ms"])
        key = (day, charge["model"], charge["key_id"] or "", charge["node"] or "")
        row = sums.get(key)
        if row is None:
            row = sums[key] = dict(zip(USAGE_KEYS, key, strict=True)) | dict.fromkeys(USAGE_SUMS, 0)
        row["requests"] += 1
        row["estimated_requests"] += charge["estimated"]
        for name in _CHARGE_SUMS:
            row[name] += charge[name] or 0
    # Always in one order, so that two writers never wait for each other's rows in a circle.
    return [sums[key] for key in sorted(sums)]


def first_ends(new: Iterable[NewFact]) -> list[dict[str, Any]]:
    """One row per request: the end with the lowest position."""
    first: dict[str, dict[str, Any]] = {}
    for position, fact in sorted(new, key=lambda item: item[0]):
        if fact.end is not None:
            first.setdefault(fact.end["request_id"], {"position": position, **fact.end})
    return [first[key] for key in sorted(first)]


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


def add_usage(dialect: str) -> Insert:
    """Add sums to the rows of a day."""
    statement = insert_or(dialect, USAGE_DAILY)
    return statement.on_conflict_do_update(
        index_elements=list(USAGE_KEYS),
        set_={name: USAGE_DAILY.c[name] + statement.excluded[name] for name in USAGE_SUMS},
    )


def tell_end(dialect: str) -> Insert:
    """Write how a request ended, unless that is known already."""
    return insert_or(dialect, ENDS).on_conflict_do_nothing(index_elements=["request_id"])


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
