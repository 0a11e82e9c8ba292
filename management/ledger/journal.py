"""Writes a batch of messages into the database, in one transaction: facts, their projections, and the quarantine."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import select

from management.ledger.books import Books
from management.ledger.crossings import Crossing, crossings
from management.ledger.facts import Fact, Reason, Unreadable, fact_of, same_content
from management.ledger.projections import NewFact, project
from management.ledger.rollups import roll_up
from store.budgets import release
from store.database import is_contents_fault, writing
from store.insertion import insert
from store.ledger_state import LedgerState, alone, state_of
from store.tables import CHARGES, EVENTS, PROMPTS, QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.sql.dml import ReturningInsert


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that is no fact: what may be remembered of it."""

    digest: str
    size_bytes: int
    reason: Reason


@dataclass(slots=True)
class Written:
    """What became of a batch."""

    stored: Counter[str] = field(default_factory=Counter)
    """Facts that are new, by kind."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Messages that are no facts, by reason."""
    duplicates: int = 0
    """Facts that were known, with the same content or another."""
    conflicting: int = 0
    """Those of the duplicates that told something else than the first: the first one counts."""
    latest_ms: int | None = None
    """The latest time that a fact of the batch tells."""
    crossings: list[Crossing] = field(default_factory=list)
    """Budgets that came to their threshold or their end by this batch."""

    def __iadd__(self, other: Written) -> Written:
        self.stored += other.stored
        self.quarantined += other.quarantined
        self.duplicates += other.duplicates
        self.conflicting += other.conflicting
        self.latest_ms = max((ms for ms in (self.latest_ms, other.latest_ms) if ms is not None), default=None)
        self.crossings += other.crossings
        return self


class WrongTimeZone(Exception):
    """The ledger's days are those of another time zone: set TIME_ZONE back, or run 'fleet ledger rebuild'."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


Entry = Fact | Quarantined


def check_zone(state: LedgerState, books: Books) -> None:
    """Raises :class:`WrongTimeZone`."""
    if state.time_zone not in (None, books.zone_name):
        raise WrongTimeZone


def read(payload: bytes) -> Entry:
    """A fact, or what goes into quarantine."""
    try:
        return fact_of(payload)
    except Unreadable as error:
        return quarantined(payload, error.reason)


def quarantined(payload: bytes, reason: Reason) -> Quarantined:
    """What may be remembered of a message that cannot be read or stored."""
    return Quarantined(hashlib.sha256(payload).hexdigest(), len(payload), reason)


def latest_of(entries: Iterable[Entry]) -> int | None:
    """The latest time that a fact among them tells."""
    return max((entry.event["time_ms"] for entry in entries if isinstance(entry, Fact)), default=None)


async def write(engine: AsyncEngine, entries: Sequence[Entry], now_ms: int, books: Books | None = None) -> Written:
    """Write all of them and commit. Raises the database's errors and :class:`WrongTimeZone`, and then has
    written nothing.

    What the database would never take, whatever its state, goes into quarantine instead; its neighbours stay.
    """
    books = books or Books()
    try:
        async with writing(engine) as connection:
            return await _write(connection, entries, now_ms, books)
    except Exception as error:
        if not is_contents_fault(error):
            raise
        if len(entries) > 1:
            return await _write_each(engine, entries, now_ms, books)
        (entry,) = entries
        if isinstance(entry, Quarantined):
            raise
        return await write(engine, [quarantined(entry.event["raw"].encode(), "unstorable")], now_ms, books)


async def _write_each(engine: AsyncEngine, entries: Sequence[Entry], now_ms: int, books: Books) -> Written:
    # One of them is refused, and the database does not say which. Should it fail half-way, the caller writes the
    # whole batch once more, and what is in by then counts as a duplicate.
    written = Written()
    for entry in entries:
        written += await write(engine, [entry], now_ms, books)
    return written


async def _write(connection: AsyncConnection, entries: Sequence[Entry], now_ms: int, books: Books) -> Written:
    written = Written()
    first: dict[str, Fact] = {}
    again: list[Fact] = []
    prompts: list[Fact] = []
    strange: Counter[Quarantined] = Counter()
    state = await _enter(connection, books, now_ms)
    for entry in entries:
        if isinstance(entry, Quarantined):
            strange[entry] += 1
        elif entry.event["time_ms"] < state.horizon_ms:
            # Whether it was counted before is not known any more: the events of its time are deleted.
            strange[quarantined(entry.event["raw"].encode(), "too_old")] += 1
        elif entry.prompt is not None:
            prompts.append(entry)
        elif entry.event_id in first:
            again.append(entry)
        else:
            first[entry.event_id] = entry
    if state.horizon_ms:
        for event_id in await _charged_before(connection, first):
            # It was counted, and the event by which this would be known for a duplicate is deleted.
            strange[quarantined(first.pop(event_id).event["raw"].encode(), "too_old")] += 1
    new = await _store(connection, list(first.values()), now_ms)
    spent = await project(connection, new, books, state)
    await release(connection, {fact.end["request_id"] for _, fact in new if fact.end is not None})
    written.crossings = await crossings(connection, spent, now_ms)
    await _quarantine(connection, strange, now_ms)
    if books.keeps_prompts:
        await _keep(connection, prompts)

    known = first.keys() - {fact.event_id for _, fact in new}
    repeated = [*again, *(first[event_id] for event_id in known)]
    told = {event_id: fact.event["raw"] for event_id, fact in first.items() if event_id not in known}
    told |= await _raw_of(connection, sorted(known))
    written.stored.update(fact.kind for _, fact in new)
    for strange_one, count in strange.items():
        written.quarantined[strange_one.reason] += count
    written.duplicates = len(repeated)
    written.conflicting = sum(not same_content(told[fact.event_id], fact.event["raw"]) for fact in repeated)
    written.latest_ms = latest_of(first.values())
    return written


async def _enter(connection: AsyncConnection, books: Books, now_ms: int) -> LedgerState:
    """How the ledger stands, once nobody else writes it and the days that are over are rolled up."""
    await alone(connection)
    state = await state_of(connection)
    check_zone(state, books)
    return await roll_up(connection, state, books.yesterday(now_ms))


async def _charged_before(connection: AsyncConnection, facts: Mapping[str, Fact]) -> list[str]:
    """The ids of the events that charge for a request whose charge is known and whose event is not any more."""
    asked = {fact.charge["request_id"]: event_id for event_id, fact in facts.items() if fact.charge is not None}
    if not asked:
        return []
    charged = select(CHARGES.c.request_id).outerjoin(EVENTS, EVENTS.c.position == CHARGES.c.position)
    charged = charged.where(CHARGES.c.request_id.in_(sorted(asked)), EVENTS.c.position.is_(None))
    return [asked[request_id] for request_id in await connection.scalars(charged)]


def insert_events(dialect: str) -> ReturningInsert[int, str]:
    """Insert what is new, and tell what that was."""
    statement = insert(dialect, EVENTS).on_conflict_do_nothing(index_elements=["event_id"])
    return statement.returning(EVENTS.c.position, EVENTS.c.event_id)


@cache
def count_quarantined(dialect: str) -> Insert:
    """Insert a digest, or count it once more."""
    statement = insert(dialect, QUARANTINE)
    return statement.on_conflict_do_update(
        index_elements=["digest"],
        set_={
            "count": QUARANTINE.c.count + statement.excluded["count"],
            "last_seen_ms": statement.excluded.last_seen_ms,
        },
    )


async def _store(connection: AsyncConnection, facts: Sequence[Fact], now_ms: int) -> list[NewFact]:
    if not facts:
        return []
    rows = [{**fact.event, "stored_ms": now_ms} for fact in facts]
    positions = {
        event_id: position
        for position, event_id in await connection.execute(insert_events(connection.dialect.name), rows)
    }
    return [(positions[fact.event_id], fact) for fact in facts if fact.event_id in positions]


async def _keep(connection: AsyncConnection, prompts: Sequence[Fact]) -> None:
    rows = [fact.prompt for fact in prompts if fact.prompt is not None]
    if rows:
        await connection.execute(insert(connection.dialect.name, PROMPTS).on_conflict_do_nothing(), rows)


async def _raw_of(connection: AsyncConnection, event_ids: Sequence[str]) -> dict[str, str]:
    if not event_ids:
        return {}
    found = await connection.execute(select(EVENTS.c.event_id, EVENTS.c.raw).where(EVENTS.c.event_id.in_(event_ids)))
    return dict(found.all())


async def _quarantine(connection: AsyncConnection, strange: Counter[Quarantined], now_ms: int) -> None:
    # One digest has one size; its reason might differ only between versions of this program.
    rows = [
        {
            "digest": one.digest,
            "size_bytes": one.size_bytes,
            "reason": one.reason,
            "first_seen_ms": now_ms,
            "last_seen_ms": now_ms,
            "count": count,
        }
        for one, count in sorted(strange.items(), key=lambda item: item[0].digest)
    ]
    if rows:
        await connection.execute(count_quarantined(connection.dialect.name), rows)
