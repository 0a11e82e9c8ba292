"""The statements behind the REST API, for both databases."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, Select, cast, func, literal, select, tuple_

from management.facts import kind_of
from management.projections import USAGE_SUMS
from store.tables import CHARGES, ENDS, EVENTS, NODES, USAGE_DAILY
from wire.errors import InvalidRequest
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from management.answers import ChargesQuestion, EndsQuestion, EventsQuestion, UsageQuestion

_GROUPS = {"day": "day", "model": "model", "key": "key_id", "node": "node"}
TIMELINE_EVENTS_MAX = 200
"""A request has a handful of events. A forged one may have any number."""
_POSITION_MAX = 2**63 - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def charges(question: ChargesQuestion) -> Select[Any]:
    """A page of charges and one more, the newest first."""
    table = CHARGES.c
    statement = select(CHARGES).where(
        *(
            table[name] == wanted
            for name in ("model", "key_id", "node", "request_id")
            if (wanted := getattr(question, name)) is not None
        )
    )
    if question.since is not None:
        statement = statement.where(table.time_ms >= _ms(question.since))
    if question.until is not None:
        statement = statement.where(table.time_ms < _ms(question.until))
    return _page(statement, table.position, question.cursor, question.limit)


def events(question: EventsQuestion) -> Select[Any]:
    """A page of events and one more, the newest first."""
    table = EVENTS.c
    statement = select(table.position, table.stored_ms, table.raw).where(
        *(
            table[name] == wanted
            for name in ("request_id", "node", "model")
            if (wanted := getattr(question, name)) is not None
        )
    )
    if question.type is not None:
        type_ = PREFIX + question.type if kind_of(PREFIX + question.type) else question.type
        statement = statement.where(table.type == type_)
    return _page(statement, table.position, question.cursor, question.limit)


def ends(question: EndsQuestion) -> Select[Any]:
    """A page of ends and one more, the newest first."""
    table = ENDS.c
    statement = select(ENDS).where(
        *(
            table[name] == wanted
            for name in ("status", "model", "key_id", "node")
            if (wanted := getattr(question, name)) is not None
        )
    )
    if question.since is not None:
        statement = statement.where(table.time_ms >= _ms(question.since))
    if question.until is not None:
        statement = statement.where(table.time_ms < _ms(question.until))
    return _page(statement, table.position, question.cursor, question.limit)


def end_of(request_id: str) -> Select[Any]:
    """How one request ended."""
    return select(ENDS).where(ENDS.c.request_id == request_id)


def charge_of(request_id: str) -> Select[Any]:
    """What one request is billed for."""
    return select(CHARGES).where(CHARGES.c.request_id == request_id)


def timeline(request_id: str) -> Select[Any]:
    """Everything that was told of one request, the oldest first."""
    table = EVENTS.c
    statement = select(table.position, table.stored_ms, table.raw).where(table.request_id == request_id)
    return statement.order_by(table.position).limit(TIMELINE_EVENTS_MAX)


def groups(question: UsageQuestion) -> list[str]:
    """The columns to group by, in one order whatever the order asked for."""
    return [column for by, column in _GROUPS.items() if by in question.by]


def usage(question: UsageQuestion) -> Select[Any]:
    """A page of sums and one more, ordered by their groups."""
    table = USAGE_DAILY.c
    keys = [table[name] for name in groups(question)]
    # PostgreSQL sums 64-bit integers into a numeric, which would come back as a Decimal.
    sums = [cast(func.coalesce(func.sum(table[name]), 0), BigInteger).label(name) for name in USAGE_SUMS]
    statement = select(*keys, *sums).where(
        *(
            table[name] == wanted
            for name in ("model", "key_id", "node")
            if (wanted := getattr(question, name)) is not None
        )
    )
    if question.since is not None:
        statement = statement.where(table.day >= question.since)
    if question.until is not None:
        statement = statement.where(table.day <= question.until)
    if keys:
        statement = statement.group_by(*keys).order_by(*keys)
    if question.cursor is not None:
        after = _group_of(question.cursor, keys)
        statement = statement.where(
            tuple_(*keys) > tuple_(*(literal(value, key.type) for key, value in zip(keys, after, strict=True)))
        )
    return statement.limit(question.limit + 1)


def cursor_of_group(row: dict[str, Any], names: Sequence[str]) -> str:
    """Where the page after this row of sums begins."""
    return msgspec.json.encode([row[name] for name in names]).decode()


def nodes(limit: int) -> Select[Any]:
    """The nodes of which something was told last."""
    return select(NODES).order_by(NODES.c.last_ms.desc(), NODES.c.node).limit(limit)


def nodes_named(names: Sequence[str]) -> Select[Any]:
    """What was told about these nodes."""
    return select(NODES).where(NODES.c.node.in_(names))


def _page(statement: Select[Any], position: ColumnElement[int], cursor: str | None, limit: int) -> Select[Any]:
    if cursor is not None:
        statement = statement.where(position < _position_of(cursor))
    # One more than asked for tells whether there is another page.
    return statement.order_by(position.desc()).limit(limit + 1)


def _position_of(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 19 and int(cursor) <= _POSITION_MAX):
        raise _wrong_cursor()
    return int(cursor)


def _group_of(cursor: str, keys: Sequence[ColumnElement[Any]]) -> list[Any]:
    try:
        values = msgspec.json.decode(cursor, type=list[str])
        if not keys or len(values) != len(keys) or any("\0" in value for value in values):
            raise ValueError
        return [
            datetime.date.fromisoformat(value) if key.type.python_type is datetime.date else value
            for key, value in zip(keys, values, strict=True)
        ]
    except (ValueError, msgspec.DecodeError):
        raise _wrong_cursor() from None


def _wrong_cursor() -> InvalidRequest:
    return InvalidRequest("This cursor was not made by an answer to the same question.", param="cursor")


def _ms(time: datetime.datetime) -> int:
    return (time - _EPOCH) // datetime.timedelta(milliseconds=1)
