"""What operators want of nodes and models, as long as it shall hold. Heartbeats tell whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import delete, select

from store.fleet_tables import ORDERS
from store.insertion import insert

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncConnection

Scope = Literal["node", "model"]
Verb = Literal["pause", "resume", "drain"]

_OF_GONE_NODES_MS = 24 * 3600 * 1000
"""For so long an order for a node that is not there is kept: it may only be out of hearing."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """``subject`` is a node's incarnation, or a model's name. ``at_ms`` is Unix time."""

    scope: Scope
    subject: str
    order: Verb
    by: str
    at_ms: int
    reason: str | None = None


async def give(connection: AsyncConnection, orders: Collection[Order]) -> None:
    """Let them hold, instead of what held for the same subjects."""
    statement = insert(connection.dialect.name, ORDERS)
    statement = statement.on_conflict_do_update(
        index_elements=["scope", "subject"],
        set_={name: statement.excluded[name] for name in ("order", "by", "at_ms", "reason")},
    )
    # Always in one order, so that two writers never wait in a circle.
    rows = sorted((vars(order) for order in orders), key=lambda row: (row["scope"], row["subject"]))
    await connection.execute(statement, rows)


async def standing(connection: AsyncConnection) -> dict[tuple[str, str], Order]:
    """All that hold."""
    rows = (await connection.execute(select(ORDERS))).mappings()
    return {(row["scope"], row["subject"]): Order(**row) for row in rows}


async def forget(connection: AsyncConnection, present: Collection[str], now_ms: int) -> None:
    """Drop the orders of nodes that have been gone for a day."""
    old = select(ORDERS.c.subject).where(ORDERS.c.scope == "node", ORDERS.c.at_ms < now_ms - _OF_GONE_NODES_MS)
    gone = set((await connection.execute(old)).scalars()) - set(present)
    for node in sorted(gone):
        await connection.execute(delete(ORDERS).where(ORDERS.c.scope == "node", ORDERS.c.subject == node))
