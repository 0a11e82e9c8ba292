"""Budgets: what a key, a tag or a model may cost in a day, in a month or at all, exactly, whoever asks at once.

A request *reserves* the most that it may come to cost when it is admitted; its end releases that, and in the same
transaction its charge is added to what is spent. Spent and reserved together never exceed a budget when a request is
admitted. People write budgets by ``fleet budgets``, gateways reserve, management settles.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from sqlalchemy import (
    BigInteger,
    Numeric,
    ScalarSelect,
    case,
    cast,
    delete,
    func,
    insert,
    inspect,
    literal,
    select,
    tuple_,
    update,
)

from store.insertion import insert as insert_or
from store.ledger_state import state_of, zone_of
from store.money_tables import BUDGETS, RESERVATIONS, SPENT_DAILY
from store.tables import API_KEYS_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncConnection

Scope = Literal["key", "tag", "model"]
Period = Literal["day", "month", "total"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PERIODS: tuple[Period, ...] = get_args(Period)
_PORTION = 1_000
"""Budgets in one statement: both databases allow some 32,000 values, and a budget is named by three."""


class BudgetId(NamedTuple):
    """One budget: of a key's name, of a tag as ``name=value``, or of a model's name."""

    scope: Scope
    subject: str
    period: Period

    def __str__(self) -> str:
        return f"{self.scope} {self.subject!r} {'in all' if self.period == 'total' else 'a ' + self.period}"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``amount_max`` nanos of ``currency``; people are warned at ``warn_percent`` of it."""

    id: BudgetId
    currency: str
    amount_max: int
    warn_percent: int
    created_ms: int


@dataclass(frozen=True)
class Standing:
    """What of a budget is spent in its present period, and what is reserved: nanos."""

    spent: int = 0
    held: int = 0

    def state(self, budget: Budget) -> str:
        """``ok``, ``warning`` or ``exhausted``."""
        if self.spent >= budget.amount_max:
            return "exhausted"
        return "warning" if self.spent * 100 >= budget.amount_max * budget.warn_percent else "ok"


@dataclass(frozen=True)
class Ask:
    """A request that wants to be admitted: what it may come to cost, for each budget that it touches."""

    request_id: str
    amounts: Mapping[BudgetId, int]
    expires_ms: int


def tags_of(tags: Mapping[str, str]) -> list[str]:
    """Tags as sums and budgets name them."""
    return [f"{name}={value}" for name, value in sorted(tags.items())]


def subjects_of(model: str, key_id: str | None, tags: Mapping[str, str]) -> list[tuple[Scope, str]]:
    """Whose budgets a request touches."""
    subjects: list[tuple[Scope, str]] = [("key", key_id)] if key_id else []
    return [*subjects, ("model", model), *(("tag", tag) for tag in tags_of(tags))]


async def has_tables(connection: AsyncConnection) -> bool:
    """Whether the schema knows budgets."""
    return await connection.run_sync(lambda sync: inspect(sync).has_table(BUDGETS.name))


async def listed(connection: AsyncConnection) -> list[Budget]:
    """All of them, in the order of their ids."""
    statement = select(BUDGETS).order_by(BUDGETS.c.scope, BUDGETS.c.subject, BUDGETS.c.period)
    return [_budget(row) for row in (await connection.execute(statement)).mappings()]


async def page(connection: AsyncConnection, after: BudgetId | None, limit: int) -> list[Budget]:
    """The next of them behind this one, in the order of their ids."""
    order = [BUDGETS.c[name] for name in BudgetId._fields]
    statement = select(BUDGETS).order_by(*order).limit(limit)
    if after is not None:
        statement = statement.where(tuple_(*order) > tuple_(*map(literal, after)))
    return [_budget(row) for row in (await connection.execute(statement)).mappings()]


async def in_trouble(
    connection: AsyncConnection, day: datetime.date, limit: int
) -> tuple[list[tuple[Budget, str]], int]:
    """Those that are nearly or wholly spent on a day, each with its state; the first of them, and how many there are.

    One statement, for there may be ten thousand budgets of which three are in trouble.
    """
    spent = select(BUDGETS, func.coalesce(_spent(day), 0).label("spent")).subquery()
    # Wider than 64 bits, into which a hundred times an amount might not fit.
    part, whole = (cast(each, Numeric) for each in (spent.c.spent, spent.c.amount_max))
    found = select(spent, func.count().over().label("count")).where(part * 100 >= whole * spent.c.warn_percent)
    found = found.order_by(*(spent.c[name] for name in BudgetId._fields)).limit(limit)
    rows = (await connection.execute(found)).mappings().all()
    budgets = [(budget := _budget(row), Standing(row["spent"]).state(budget)) for row in rows]
    return budgets, rows[0]["count"] if rows else 0


async def of_subjects(connection: AsyncConnection, subjects: Iterable[tuple[Scope, str]]) -> list[Budget]:
    """Those of these subjects, in the order of their ids."""
    wanted, subject = sorted(subjects), tuple_(BUDGETS.c.scope, BUDGETS.c.subject)
    found: list[Budget] = []
    for first in range(0, len(wanted), _PORTION):
        statement = select(BUDGETS).where(subject.in_(wanted[first : first + _PORTION]))
        found += [_budget(row) for row in (await connection.execute(statement)).mappings()]
    return sorted(found, key=lambda budget: budget.id)


async def put(connection: AsyncConnection, budget: Budget) -> None:
    """Add a budget, or change it; what is spent stays spent. In another currency nothing is reserved yet."""
    await _changed(connection)
    currency = await connection.scalar(select(BUDGETS.c.currency).where(_is(BUDGETS, [budget.id])))
    if currency != budget.currency:
        await connection.execute(delete(RESERVATIONS).where(_is(RESERVATIONS, [budget.id])))
    row = {
        **budget.id._asdict(),
        "currency": budget.currency,
        "amount_max": budget.amount_max,
        "warn_percent": budget.warn_percent,
        "created_ms": budget.created_ms,
    }
    statement = insert_or(connection.dialect.name, BUDGETS)
    names = ("currency", "amount_max", "warn_percent")
    changes = {name: statement.excluded[name] for name in names}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["scope", "subject", "period"], set_=changes), [row]
    )


async def remove(connection: AsyncConnection, id_: BudgetId) -> bool:
    """Take a budget away; whether there was one."""
    await _changed(connection)
    await connection.execute(delete(RESERVATIONS).where(_is(RESERVATIONS, [id_])))
    return bool((await connection.execute(delete(BUDGETS).where(_is(BUDGETS, [id_])))).rowcount)


async def today(connection: AsyncConnection, now_ms: int) -> datetime.date:
    """The day by the ledger's time zone."""
    zone = (await state_of(connection)).time_zone
    return datetime.datetime.fromtimestamp(now_ms // 1000, zone_of(zone or "UTC")).date()


async def standings(
    connection: AsyncConnection, budgets: Sequence[Budget], day: datetime.date, now_ms: int
) -> dict[BudgetId, Standing]:
    """How each of them stands on a day."""
    found = {budget.id: Standing() for budget in budgets}
    ids = list(found)
    for first in range(0, len(ids), _PORTION):
        for id_, spent, held in await _portion(connection, ids[first : first + _PORTION], day, now_ms):
            found[id_] = Standing(spent, held)
    return found


async def _portion(
    connection: AsyncConnection, ids: Sequence[BudgetId], day: datetime.date, now_ms: int
) -> list[tuple[BudgetId, int, int]]:
    # One statement sees one state: a charge that is settled meanwhile is either reserved or spent, never neither.
    statement = select(*(BUDGETS.c[name] for name in BudgetId._fields), _spent(day), _held(now_ms))
    rows = await connection.execute(statement.where(_is(BUDGETS, ids)))
    return [(BudgetId(*row[:3]), row[3] or 0, row[4] or 0) for row in rows]


async def reserve(connection: AsyncConnection, asks: Sequence[Ask], now_ms: int) -> list[Budget | None]:
    """For each, in order: the budget that has no room for it, or None, and then it is reserved.

    In a transaction that :func:`store.database.writing` began. Others that ask for the same budgets wait.
    """
    ids = sorted({id_ for ask in asks for id_ in ask.amounts})
    statement = select(BUDGETS).where(_is(BUDGETS, ids)).order_by(BUDGETS.c.scope, BUDGETS.c.subject, BUDGETS.c.period)
    locked = (await connection.execute(statement.with_for_update())).mappings()
    budgets = {budget.id: budget for budget in map(_budget, locked)}
    day = await today(connection, now_ms)
    standing = await standings(connection, list(budgets.values()), day, now_ms)
    room = {id_: budgets[id_].amount_max - each.spent - each.held for id_, each in standing.items()}
    answers: list[Budget | None] = []
    rows: list[dict[str, Any]] = []
    for ask in asks:
        amounts = {id_: amount for id_, amount in ask.amounts.items() if id_ in budgets}
        full = next((budgets[id_] for id_, amount in amounts.items() if amount > room[id_]), None)
        answers.append(full)
        if full is None:
            for id_, amount in amounts.items():
                room[id_] -= amount
                rows.append(
                    {"request_id": ask.request_id, **id_._asdict(), "amount": amount, "expires_ms": ask.expires_ms}
                )
    if rows:
        await connection.execute(insert(RESERVATIONS), rows)
    return answers


async def release(connection: AsyncConnection, request_ids: Iterable[str]) -> None:
    """What is reserved for these requests is free."""
    if ids := sorted(request_ids):
        await connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.request_id.in_(ids)))


async def forget_expired(connection: AsyncConnection, now_ms: int) -> None:
    """Delete what counts no more: the ends of these requests were never told."""
    await connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.expires_ms <= now_ms))


def _spent(day: datetime.date) -> ScalarSelect[int]:
    table, budget = SPENT_DAILY.c, BUDGETS.c
    first = case(
        (budget.period == "day", literal(day)),
        (budget.period == "month", literal(day.replace(day=1))),
        else_=literal(day.min),
    )
    statement = select(cast(func.sum(table.amount), BigInteger)).where(
        table.scope == budget.scope,
        table.subject == budget.subject,
        table.currency == budget.currency,
        table.day >= first,
    )
    return statement.scalar_subquery()


def _held(now_ms: int) -> ScalarSelect[int]:
    table = RESERVATIONS.c
    is_of = (table[name] == BUDGETS.c[name] for name in BudgetId._fields)
    statement = select(cast(func.sum(table.amount), BigInteger)).where(*is_of, table.expires_ms > now_ms)
    return statement.scalar_subquery()


def _is(table: Any, ids: Sequence[BudgetId]) -> Any:
    return tuple_(table.c.scope, table.c.subject, table.c.period).in_([tuple(id_) for id_ in ids])


async def _changed(connection: AsyncConnection) -> None:
    # As for keys: the row's lock puts writers one behind the other.
    await connection.execute(update(API_KEYS_VERSION).values(version=API_KEYS_VERSION.c.version + 1))


def _budget(row: Any) -> Budget:
    return Budget(
        id=BudgetId(row["scope"], row["subject"], row["period"]),
        currency=row["currency"],
        amount_max=row["amount_max"],
        warn_percent=row["warn_percent"],
        created_ms=row["created_ms"],
    )
