"""The statements behind the REST API's lists, for both databases."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Select, String, literal, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from management.ledger.facts import BILLED, kind_of
from store.money_tables import PRICED
from store.tables import CHARGES, ENDS, EVENTS, NODES, PROMPTS, QUARANTINE
from wire.errors import InvalidRequest
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.sql.compiler import SQLCompiler

    from management.reading.fleet_questions import DeadLettersQuestion
    from management.reading.questions import ChargesQuestion, EndsQuestion, EventsQuestion

TIMELINE_EVENTS_MAX = 200
"""A request has a handful of events. A forged one may have any number."""
_NUMBER_MAX = 2**63 - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_OF_FEW = ("request_id", "type", "status")
"""Columns of which most values are those of few rows …"""
_OF_MOST = frozenset((None, PREFIX + BILLED, "answered"))
"""… but for these; None is no value."""
_LEADING = ("node", "key_id", "model", "status", "type")
"""Columns that have an index with the order of their table's pages, those with the fewest rows for a value first."""
_MONEY = [PRICED.c[name] for name in ("amount", "currency", "price_version")]


class Unindexed(FunctionElement[str]):
    """A column by which SQLite searches no index. PostgreSQL knows by itself how many rows have a value."""

    inherit_cache = True
    type = String()


@compiles(Unindexed)
def _as_it_is(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(Unindexed, "sqlite")
def _with_a_sign(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


class LedBy(FunctionElement[Any]):
    """Whether a column has a value. It is made of the column and those that order a page, of the value, and of the
    places at which the page begins and before which it ends.

    PostgreSQL believes that the newest rows have a common value as often as all others, and would go through those by
    their time: for the value of a node that is gone, through everything since. Where the order begins with the column,
    and no equation says that it is always the same, no index serves but that of both.
    """

    inherit_cache = True  # no Boolean: SQLite would be told to compare it with 1, and use no index


@compiles(LedBy)
def _as_equation(element: LedBy, compiler: SQLCompiler, **options: Any) -> str:
    parts = list(element.clauses)
    return compiler.process(parts[0] == parts[len(parts) // 3 + 1], **options)


@compiles(LedBy, "postgresql")
def _as_places(element: LedBy, compiler: SQLCompiler, **options: Any) -> str:
    parts = [compiler.process(each, **options) for each in element.clauses]
    count = len(parts) // 3
    place, value = ", ".join(parts[: count + 1]), parts[count + 1]
    begin, end = ", ".join(parts[-2 * count : -count]), ", ".join(parts[-count:])
    return f"({place}) >= ({value}, {begin}) AND ({place}) < ({value}, {end})"


def charges(question: ChargesQuestion) -> Select[Any]:
    """A page of charges and one more, the newest first, with what they are priced at."""
    statement = select(CHARGES, *_MONEY).outerjoin(PRICED, PRICED.c.position == CHARGES.c.position)
    return page_by_time(statement, CHARGES, question, ("model", "key_id", "node", "request_id"))


def ends(question: EndsQuestion) -> Select[Any]:
    """A page of ends and one more, the newest first."""
    return page_by_time(select(ENDS), ENDS, question, ("status", "model", "key_id", "node"))


def events(question: EventsQuestion) -> Select[Any]:
    """A page of events and one more, the last stored first."""
    table = EVENTS.c
    wanted = {name: getattr(question, name) for name in ("request_id", "type", "node", "model")}
    if question.type is not None and kind_of(PREFIX + question.type):
        wanted["type"] = PREFIX + question.type
    before = None if question.cursor is None else numbers(question.cursor, 1)
    statement = select(table.position, table.stored_ms, table.raw)
    return page(statement, table, wanted, ("position",), question.limit, before)


def cursor_of_time(row: dict[str, Any]) -> str:
    """Where the page after this charge or end begins."""
    return f"{row['time_ms']}-{row['position']}"


def end_of(request_id: str) -> Select[Any]:
    """How one request ended."""
    return select(ENDS).where(ENDS.c.request_id == request_id)


def charge_of(request_id: str) -> Select[Any]:
    """What one request is billed for."""
    statement = select(CHARGES, *_MONEY).outerjoin(PRICED, PRICED.c.position == CHARGES.c.position)
    return statement.where(CHARGES.c.request_id == request_id)


def timeline(request_id: str) -> Select[Any]:
    """Everything that was told of one request, the oldest first."""
    table = EVENTS.c
    statement = select(table.position, table.stored_ms, table.raw).where(table.request_id == request_id)
    return statement.order_by(table.position).limit(TIMELINE_EVENTS_MAX)


def nodes(limit: int, model: str | None) -> Select[Any]:
    """The nodes, of this model or any, of which something was told last."""
    statement = select(NODES).order_by(NODES.c.last_ms.desc(), NODES.c.node).limit(limit)
    return statement if model is None else statement.where(NODES.c.model == model)


def nodes_named(names: Sequence[str]) -> Select[Any]:
    """What was told about these nodes."""
    return select(NODES).where(NODES.c.node.in_(names))


def prompt_of(request_id: str) -> Select[Any]:
    """What its client sent, if it is stored."""
    return select(PROMPTS).where(PROMPTS.c.request_id == request_id)


def prompt_sizes(request_id: str) -> Select[Any]:
    """Whether its prompt is stored, and how large it was."""
    return select(PROMPTS.c.body_bytes).where(PROMPTS.c.request_id == request_id)


def quarantine(limit: int) -> Select[Any]:
    """What was put aside, the last seen first."""
    return select(QUARANTINE).order_by(QUARANTINE.c.last_seen_ms.desc(), QUARANTINE.c.digest).limit(limit)


def wrong_cursor() -> InvalidRequest:
    """The error for a cursor that leads nowhere."""
    return InvalidRequest("This cursor was not made by an answer to the same question.", param="cursor")


def page_by_time(
    statement: Select[Any],
    table: Table,
    question: ChargesQuestion | EndsQuestion | DeadLettersQuestion,
    names: Sequence[str],
) -> Select[Any]:
    """A page and one more of a table with ``time_ms`` and ``position``, the newest first."""
    columns = table.c
    before, since = None, [0, 0]
    if (earliest := getattr(question, "since", None)) is not None:
        since = [_ms(earliest), 0]
        statement = statement.where(columns.time_ms >= since[0])
    if (until := getattr(question, "until", None)) is not None:
        before = [_ms(until), 0]
        statement = statement.where(columns.time_ms < before[0])
    if question.cursor is not None:
        before = numbers(question.cursor, 2)
    wanted = {name: getattr(question, name) for name in names}
    return page(statement, columns, wanted, ("time_ms", "position"), question.limit, before, since)


def page(
    statement: Select[Any],
    columns: Any,
    wanted: Mapping[str, str | None],
    order: Sequence[str],
    limit: int,
    before: Sequence[int] | None,
    since: Sequence[int] = (0,),
) -> Select[Any]:
    """A page and one more of the rows that have these values: the last ones in this order before a place in it.

    ``since``: a place before which the statement wants none.
    """
    few, place = _few(wanted), [columns[name] for name in order]
    if before is not None:
        statement = statement.where(tuple_(*place) < tuple_(*map(literal, before)))
    leading = few or next((name for name in _LEADING if wanted.get(name) is not None), "")
    if leading in _LEADING:
        span = [literal(number, BigInteger) for number in (*since, *(before or [_NUMBER_MAX] * len(order)))]
        statement = statement.where(LedBy(columns[leading], *place, literal(wanted[leading]), *span))
        place.insert(0, columns[leading])
        wanted = {name: value for name, value in wanted.items() if name != leading}
    statement = statement.where(*_matching(columns, wanted, few))
    # One more than asked for tells whether there is another page.
    return statement.order_by(*(each.desc() for each in place)).limit(limit + 1)


def equal(columns: Any, question: object, names: Sequence[str]) -> list[ColumnElement[bool]]:
    """Those filters of the question that are set."""
    wanted = {name: getattr(question, name) for name in names}
    return _matching(columns, wanted, _few(wanted))


def _few(wanted: Mapping[str, str | None]) -> str | None:
    """Which of these values is one of few rows."""
    return next((name for name in _OF_FEW if wanted.get(name) not in _OF_MOST), None)


def _matching(columns: Any, wanted: Mapping[str, str | None], few: str | None) -> list[ColumnElement[bool]]:
    """Where columns of text have these values; None is any.

    What few rows have is looked up, and by no other index: SQLite, which knows of no numbers, might read all rows of a
    model for the few that failed.
    """
    found = ((name, columns[name], value) for name, value in wanted.items() if value is not None)
    return [(column if few in (None, name) else Unindexed(column)) == value for name, column, value in found]


def numbers(cursor: str, count: int) -> list[int]:
    """The numbers that a cursor is made of. Raises :class:`wire.errors.InvalidRequest`."""
    parts = cursor.split("-")
    if len(parts) != count or not all(
        part.isascii() and part.isdigit() and len(part) <= 19 and int(part) <= _NUMBER_MAX for part in parts
    ):
        raise wrong_cursor()
    return [int(part) for part in parts]


def _ms(time: datetime.datetime) -> int:
    return (time - _EPOCH) // datetime.timedelta(milliseconds=1)
