"""What all sums of a ledger were made with: whose days its days are, and from when on its events are still there."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import select, text, update

from store.tables import LEDGER_STATE

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


_ADVISORY_LOCK = 0x6C656467  # any number, the same in every process


@dataclass(frozen=True)
class LedgerState:
    """``horizon_ms``: events of an earlier time are deleted, or will be; none is taken any more. ``rolled_up_until``:
    usage and money of this day, and of those before it, have rollups."""

    time_zone: str | None = None
    horizon_ms: int = 0
    rolled_up_until: datetime.date = datetime.date.min


def zone_of(name: str) -> datetime.tzinfo:
    """The time zone of this name. Raises what :class:`zoneinfo.ZoneInfo` does; not for UTC, which is also there where
    the machine knows no zones, as one without the package tzdata."""
    return datetime.UTC if name == "UTC" else ZoneInfo(name)


async def alone(connection: AsyncConnection) -> None:
    """Until this transaction ends nobody else writes events: positions become visible in their order, so that who reads
    on from one misses nothing. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})


async def state_of(connection: AsyncConnection) -> LedgerState:
    """As it stands."""
    table = LEDGER_STATE.c
    row = (await connection.execute(select(table.time_zone, table.horizon_ms, table.rolled_up_until))).one()
    return LedgerState(*row)


async def set_time_zone(connection: AsyncConnection, name: str) -> None:
    """From now on its days are those of this zone: whoever calls this makes all sums anew, or there are none."""
    await connection.execute(update(LEDGER_STATE).values(time_zone=name))


async def set_horizon(connection: AsyncConnection, horizon_ms: int) -> None:
    """Take no event of an earlier time any more. It never moves back."""
    earlier = LEDGER_STATE.c.horizon_ms < horizon_ms
    await connection.execute(update(LEDGER_STATE).where(earlier).values(horizon_ms=horizon_ms))


async def set_rolled_up_until(connection: AsyncConnection, state: LedgerState, day: datetime.date) -> LedgerState:
    """Whoever calls this made the rollups. Returns the state as it is then."""
    await connection.execute(update(LEDGER_STATE).values(rolled_up_until=day))
    return replace(state, rolled_up_until=day)
