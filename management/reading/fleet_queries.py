"""The statements behind the fleet's lists, for both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, exists, func, literal, literal_column, select, tuple_

from management.ledger.rollups import rollup_for
from management.reading.queries import Unindexed, equal, numbers, page_by_time, wrong_cursor
from store.fleet_tables import ACTIONS, ALERTS, ERRORS_DAILY, ERRORS_ROLLUP, NODE_ERRORS
from store.tables import CHARGES, ENDS, EVENTS
from wire.event import PREFIX

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence

    from sqlalchemy import FromClause

    from management.reading.fleet_questions import ActionsQuestion, AlertsQuestion, DeadLettersQuestion, ErrorsQuestion

SAMPLES_MAX = 200
SAMPLES_MS = 3_600_000
"""Percentiles are those of so many charges of the last hour: a bounded read of one index, whatever the ledger holds,
and the same at every management, of which only one writes the ledger."""
LETTERS_COUNTED_MAX = 1_000
AFFECTED_MAX = 20
"""Models and keys that are named for one error."""
# Written out, for the index of dead letters holds no others, and a parameter could be anything.
_IS_DEAD = ENDS.c.status == literal_column("'dead'")
_LATER = EVENTS.alias("later")
IS_DISCARDED = exists().where(
    _LATER.c.request_id == ENDS.c.request_id, Unindexed(_LATER.c.type) == f"{PREFIX}request.discarded"
)
"""Of an end of a request: whether a person has let it go."""
_FILTERS = ("model", "key_id")
_GROUP = ("fingerprint", "scope", "code", "provider")


def latest_charges(model: str, now_ms: int) -> Select[Any]:
    """How long the latest requests of a model took."""
    columns = [CHARGES.c[name] for name in ("publish_ms", "queue_ms", "first_token_ms", "total_ms")]
    statement = select(*columns).where(CHARGES.c.model == model, CHARGES.c.time_ms >= now_ms - SAMPLES_MS)
    return statement.order_by(CHARGES.c.time_ms.desc(), CHARGES.c.position.desc()).limit(SAMPLES_MAX)


def letters_by_model() -> Select[Any]:
    """How many dead letters wait, among the latest."""
    latest = (
        select(ENDS.c.model)
        .where(_IS_DEAD, ~IS_DISCARDED)
        .order_by(ENDS.c.time_ms.desc(), ENDS.c.position.desc())
        .limit(LETTERS_COUNTED_MAX)
        .subquery()
    )
    return select(latest.c.model, func.count().label("count")).group_by(latest.c.model)


def dead_letters(question: DeadLettersQuestion) -> Select[Any]:
    """A page of them and one more, the latest first."""
    statement = select(ENDS, EVENTS.c.raw).outerjoin(EVENTS, EVENTS.c.position == ENDS.c.position)
    return page_by_time(statement.where(_IS_DEAD, ~IS_DISCARDED), ENDS, question, ("model",))


def discarded(request_id: str) -> Select[Any]:
    """The request, if a person has let it go."""
    return select(ENDS.c.request_id).where(ENDS.c.request_id == request_id, IS_DISCARDED)


def node_errors(nodes: Sequence[str]) -> Select[Any]:
    """The last one of each of these nodes."""
    return select(NODE_ERRORS).where(NODE_ERRORS.c.node.in_(nodes))


def actions(question: ActionsQuestion) -> Select[Any]:
    """A page of actions and one more, the latest first."""
    statement = select(ACTIONS).where(*equal(ACTIONS.c, question, ("by", "action", "subject")))
    if question.cursor is not None:
        statement = statement.where(ACTIONS.c.action_id < numbers(question.cursor, 1)[0])
    return statement.order_by(ACTIONS.c.action_id.desc()).limit(question.limit + 1)


def alerts(question: AlertsQuestion) -> Select[Any]:
    """A page of alerts and one more, the latest first."""
    statement = select(ALERTS)
    if question.open is not None:
        is_open = ALERTS.c.cleared_ms.is_(None)
        statement = statement.where(is_open if question.open else ~is_open)
    if question.cursor is not None:
        statement = statement.where(ALERTS.c.alert_id < numbers(question.cursor, 1)[0])
    return statement.order_by(ALERTS.c.alert_id.desc()).limit(question.limit + 1)


def errors(question: ErrorsQuestion, since: datetime.date) -> Select[Any]:
    """A page of errors and one more, the latest first."""
    errors = _errors_for(question)
    table, last_ms = errors.c, func.max(errors.c.last_ms)
    groups = [table[name] for name in _GROUP]
    statement = select(
        *groups, func.sum(table.count).label("count"), func.min(table.first_ms).label("first_ms"), last_ms.label("last")
    )
    statement = statement.where(*_wanted(errors, question, since)).group_by(*groups)
    if question.cursor is not None:
        time, _, fingerprint = question.cursor.partition("-")
        if not fingerprint:
            raise wrong_cursor()
        place = tuple_(literal(numbers(time, 1)[0]), literal(fingerprint))
        statement = statement.having(tuple_(last_ms, table.fingerprint) < place)
    return statement.order_by(last_ms.desc(), table.fingerprint.desc()).limit(question.limit + 1)


def affected(question: ErrorsQuestion, since: datetime.date, name: str, fingerprints: Sequence[str]) -> Select[Any]:
    """By ``model`` or ``key_id``: how often each had these errors, those with the most of each first."""
    errors = _errors_for(question, name)
    table, count = errors.c, func.sum(errors.c.count)
    place = func.row_number().over(partition_by=table.fingerprint, order_by=(count.desc(), table[name]))
    counted = (
        select(table.fingerprint, table[name].label("name"), count.label("count"), place.label("place"))
        .where(*_wanted(errors, question, since), table.fingerprint.in_(fingerprints), table[name] != "")
        .group_by(table.fingerprint, table[name])
        .subquery()
    )
    return select(counted).where(counted.c.place <= AFFECTED_MAX).order_by(counted.c.fingerprint, counted.c.place)


def last_of_errors(question: ErrorsQuestion, since: datetime.date, last: Sequence[tuple[str, int]]) -> Select[Any]:
    """The request and the words of the last one of each error, by fingerprint and its time."""
    errors = _errors_for(question)
    table = errors.c
    columns = (table.fingerprint, table.last_event_id, table.last_request_id, table.last_message)
    return select(*columns).where(*_wanted(errors, question, since), tuple_(table.fingerprint, table.last_ms).in_(last))


def _errors_for(question: ErrorsQuestion, *names: str) -> FromClause:
    """Errors by day, or a rollup that is enough for the question and tells these columns apart."""
    rollup = rollup_for(ERRORS_DAILY, [*names, *(each for each in _FILTERS if getattr(question, each) is not None)])
    table = ERRORS_ROLLUP
    return ERRORS_DAILY if rollup is None else select(table).where(table.c.rollup == rollup).subquery()


def _wanted(errors: FromClause, question: ErrorsQuestion, since: datetime.date) -> list[Any]:
    table = errors.c
    wanted = [table.day >= since, *equal(table, question, ("scope", *_FILTERS))]
    return wanted if question.until is None else [*wanted, table.day <= question.until]
