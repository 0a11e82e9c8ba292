"""Errors for people: what went wrong, how often, for whom, and what to do."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from management.reading import fleet_queries
from management.remedies import remedy_of
from store.database import reading

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.ledger.books import Books
    from management.reading.fleet_questions import AlertsQuestion, ErrorsQuestion

DAYS = 7
"""Of which errors are shown where nobody asks for others."""


async def errors(engine: AsyncEngine, books: Books, question: ErrorsQuestion, now_ms: int) -> dict[str, Any]:
    """A page of errors. Raises the database's errors, and :class:`wire.errors.InvalidRequest` for a wrong cursor."""
    since = question.since or books.day(now_ms) - datetime.timedelta(days=DAYS - 1)
    async with reading(engine) as connection:

        async def rows(statement: Any) -> list[dict[str, Any]]:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

        found = await rows(fleet_queries.errors(question, since))
        page = found[: question.limit]
        ids = [row["fingerprint"] for row in page]
        models = await rows(fleet_queries.affected(question, since, "model", ids))
        keys = await rows(fleet_queries.affected(question, since, "key_id", ids))
        pairs = [(row["fingerprint"], row["last"]) for row in page]
        told = await rows(fleet_queries.last_of_errors(question, since, pairs)) if pairs else []
    last = {row["fingerprint"]: row for row in sorted(told, key=lambda row: str(row["last_event_id"]))}
    data = [
        {
            **{name: row[name] for name in ("fingerprint", "scope", "code", "first_ms")},
            "provider": row["provider"] or None,
            **remedy_of(row["scope"], row["code"])._asdict(),
            "count": int(row["count"]),
            "last_ms": row["last"],
            "models": _most(models, row["fingerprint"]),
            "keys": _most(keys, row["fingerprint"]),
            "last_request_id": last[row["fingerprint"]]["last_request_id"],
            "last_message": last[row["fingerprint"]]["last_message"],
        }
        for row in page
    ]
    more = len(found) > question.limit
    return {"data": data, "next_cursor": f"{page[-1]['last']}-{page[-1]['fingerprint']}" if more else None}


async def alerts(engine: AsyncEngine, question: AlertsQuestion) -> dict[str, Any]:
    """A page of alerts. Raises what :func:`errors` does."""
    async with reading(engine) as connection:
        found = [dict(row) for row in (await connection.execute(fleet_queries.alerts(question))).mappings()]
    page = found[: question.limit]
    names = ("alert_id", "code", "model", "sentence", "nodes", "opened_ms", "cleared_ms")
    data = [
        {
            **{name: row[name] for name in names},
            "provider": row["provider"] or None,
            "remedy": remedy_of("node", row["code"]).remedy,
            "told": row["telling"],
        }
        for row in page
    ]
    return {"data": data, "next_cursor": str(page[-1]["alert_id"]) if len(found) > question.limit else None}


def _most(rows: list[dict[str, Any]], fingerprint: str) -> list[dict[str, Any]]:
    return [{"name": row["name"], "count": int(row["count"])} for row in rows if row["fingerprint"] == fingerprint]
