"""Alerts: one for each cause, model and provider, open or cleared, and whether people were told.

Several managements hear of the same trouble: what is unique here makes them open one alert, and a claim makes one of
them tell it. Each is told at least once: who claims and dies leaves it to the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from store.fleet_tables import ALERTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

Told = Literal["yes", "failed", "nobody"]
_COLUMNS = ALERTS.c
UNTOLD_MAX = 20
"""That are looked at together."""


class Cause(NamedTuple):
    """What an alert is about. ``provider`` is ``''`` for nodes without one."""

    code: str
    model: str
    provider: str


async def open_causes(connection: AsyncConnection) -> set[Cause]:
    """Of every alert that is open."""
    columns = (_COLUMNS.code, _COLUMNS.model, _COLUMNS.provider)
    return {Cause(*row) for row in await connection.execute(select(*columns).where(_COLUMNS.cleared_ms.is_(None)))}


async def open_alert(connection: AsyncConnection, cause: Cause, sentence: str, nodes: int, now_ms: int) -> bool:
    """Open one; False if it is open already."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(ALERTS).on_conflict_do_nothing(
        index_elements=["code", "model", "provider"], index_where=_COLUMNS.cleared_ms.is_(None)
    )
    row = {
        **cause._asdict(),
        "sentence": sentence,
        "nodes": nodes,
        "opened_ms": now_ms,
        "telling": "not yet",
        "claimed_until_ms": 0,
    }
    return (await connection.execute(statement.values(row).returning(_COLUMNS.alert_id))).first() is not None


async def clear_alert(connection: AsyncConnection, cause: Cause, now_ms: int) -> bool:
    """Clear one; False if none is open."""
    statement = update(ALERTS).where(_is(cause), _COLUMNS.cleared_ms.is_(None))
    return (await connection.execute(statement.values(cleared_ms=now_ms, telling="not yet"))).rowcount > 0


async def untold(connection: AsyncConnection, now_ms: int) -> Sequence[Any]:
    """Alerts of which something is to be told, and that nobody tells at the moment, the oldest first."""
    is_due = or_(_COLUMNS.told.is_(None), and_(_COLUMNS.cleared_ms.is_not(None), _COLUMNS.told == "opened"))
    statement = select(ALERTS).where(is_due, _COLUMNS.claimed_until_ms < now_ms)
    return (await connection.execute(statement.order_by(_COLUMNS.alert_id).limit(UNTOLD_MAX))).mappings().all()


async def claim(connection: AsyncConnection, alert: Any, now_ms: int, until_ms: int) -> bool:
    """Be the one who tells it until then; False if somebody else is, or has told it."""
    told = _COLUMNS.told.is_(None) if alert["told"] is None else _COLUMNS.told == alert["told"]
    statement = update(ALERTS).where(_COLUMNS.alert_id == alert["alert_id"], _COLUMNS.claimed_until_ms < now_ms, told)
    return (await connection.execute(statement.values(claimed_until_ms=until_ms))).rowcount > 0


async def mark_told(connection: AsyncConnection, alert_id: int, stage: str, how: Told) -> None:
    """``stage``: ``opened`` or ``cleared``. Nothing more is tried for it."""
    statement = update(ALERTS).where(_COLUMNS.alert_id == alert_id)
    await connection.execute(statement.values(told=stage, telling=how, claimed_until_ms=0))


def _is(cause: Cause) -> Any:
    return and_(_COLUMNS.code == cause.code, _COLUMNS.model == cause.model, _COLUMNS.provider == cause.provider)
