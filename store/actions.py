"""Who did what to the fleet, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import insert, select, update

from store.fleet_tables import ACTIONS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

State = Literal["running", "done", "failed"]


async def begin(connection: AsyncConnection, row: dict[str, Any]) -> int:
    """Write down what is about to be done; its id."""
    statement = insert(ACTIONS).values(**row, state="running").returning(ACTIONS.c.action_id)
    action_id: int = (await connection.execute(statement)).scalar_one()
    return action_id


async def end(connection: AsyncConnection, action_id: int, state: State, outcome: str, now_ms: int) -> None:
    """What came of it. The first end counts."""
    statement = update(ACTIONS).where(ACTIONS.c.action_id == action_id, ACTIONS.c.state == "running")
    await connection.execute(statement.values(state=state, outcome=outcome, done_ms=now_ms))


async def one(connection: AsyncConnection, action_id: int) -> dict[str, Any] | None:
    """As it stands."""
    found = (await connection.execute(select(ACTIONS).where(ACTIONS.c.action_id == action_id))).mappings().one_or_none()
    return dict(found) if found is not None else None
