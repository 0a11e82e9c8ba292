"""The REST API: charges, requests and their ends, events, and the exports. Only ``/actions`` does anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from management.api.answers import (
    Charge,
    Charges,
    End,
    Ends,
    ErrorAnswer,
    Events,
    Prompt,
    Quarantine,
    RequestTimeline,
)
from management.api.fleet import fleet_api
from management.api.money import money_api
from management.ledger.projections import end_told
from management.reading import export, queries
from management.reading.questions import (  # noqa: TC001 (FastAPI reads annotations when a route is made)
    ChargesQuestion,
    EndsQuestion,
    EventExportQuestion,
    EventsQuestion,
    ExportQuestion,
    NoQuestion,
    QuarantineQuestion,
    Text,
)
from store import amount
from store.database import reading
from wire.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.access import Access
    from management.fleet.actions import Actions
    from management.fleet.view import FleetView
    from management.ledger.books import Books

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "A parameter is wrong."},
    401: {"model": ErrorAnswer, "description": "The key is missing or wrong."},
    429: {"model": ErrorAnswer, "description": "Too many wrong keys came from this address; see `retry-after`."},
    503: {"model": ErrorAnswer, "description": "The database cannot be read at the moment."},
}


def _lines(*forms: str) -> dict[int | str, dict[str, Any]]:
    content = {form: {"schema": {"type": "string"}} for form in forms}
    return {200: {"description": "One line for each, its position first.", "content": content}}


def api(engine: AsyncEngine, view: FleetView, actions: Actions, access: Access, books: Books) -> APIRouter:
    """The routes below ``/api/v1``."""
    router = APIRouter(prefix="/api/v1", responses=_ERRORS)
    router.include_router(money_api(engine, books))
    router.include_router(fleet_api(engine, view, actions, access, books))

    async def rows(statement: Select[Any]) -> list[dict[str, Any]]:
        async with reading(engine) as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    @router.get("/charges", summary="Charges, the newest first", response_model=Charges)
    async def charges(question: Annotated[ChargesQuestion, Query()]) -> dict[str, Any]:
        page, more = _split(await rows(queries.charges(question)), question.limit)
        cursor = queries.cursor_of_time(page[-1]) if more else None
        return {"data": [_charge(row) for row in page], "next_cursor": cursor}

    @router.get("/events", summary="Events, the newest first", response_model=Events)
    async def events(question: Annotated[EventsQuestion, Query()]) -> Response:
        page, more = _split(await rows(queries.events(question)), question.limit)
        cursor = str(page[-1]["position"]) if more else None
        return _as_told({"data": _stored(page), "next_cursor": cursor})

    @router.get("/ends", summary="How requests ended, the newest first", response_model=Ends)
    async def ends(question: Annotated[EndsQuestion, Query()]) -> dict[str, Any]:
        page, more = _split(await rows(queries.ends(question)), question.limit)
        return {"data": page, "next_cursor": queries.cursor_of_time(page[-1]) if more else None}

    @router.get(
        "/requests/{request_id}",
        summary="Everything that is known of one request",
        response_model=RequestTimeline,
        responses={404: {"model": ErrorAnswer, "description": "Nothing was ever told of it."}},
    )
    async def request(request_id: Annotated[Text, Path()], _: Annotated[NoQuestion, Query()]) -> Response:
        async with reading(engine) as connection:  # one state of the database for all three
            told = [dict(row) for row in (await connection.execute(queries.timeline(request_id))).mappings()]
            kept = (await connection.execute(queries.end_of(request_id))).mappings().one_or_none()
            charge = (await connection.execute(queries.charge_of(request_id))).mappings().one_or_none()
        end = kept or end_told(told)
        if not told and end is None and charge is None:
            raise NotFound("Nothing is known of this request.")
        return _as_told(
            {
                "request_id": request_id,
                "end": End(**end).model_dump() if end else None,
                "charge": Charge(**_charge(charge)).model_dump() if charge else None,
                "events": _stored(told),
            }
        )

    @router.get(
        "/requests/{request_id}/prompt",
        summary="What its client sent, where that is stored",
        response_model=Prompt,
        responses={
            403: {"model": ErrorAnswer, "description": "It is told to operators only."},
            404: {"model": ErrorAnswer, "description": "It is not stored."},
        },
    )
    async def prompt(request_id: Annotated[Text, Path()], asks: Request) -> dict[str, Any]:
        if asks.state.person.role != "operator":
            raise Forbidden("What clients send is told to operators only.")
        found = await rows(queries.prompt_of(request_id))
        if not found:
            raise NotFound("No prompt of this request is stored.")
        return found[0] | {"body": found[0]["body"].decode(errors="replace")}

    @router.get("/quarantine", summary="What was told and is no event", response_model=Quarantine)
    async def quarantine(question: Annotated[QuarantineQuestion, Query()]) -> dict[str, Any]:
        return {"data": await rows(queries.quarantine(question.limit))}

    @router.get(
        "/export/charges",
        summary="Charges in the order of their positions",
        response_class=Response,
        responses=_lines("application/jsonl", "text/csv"),
    )
    async def export_charges(question: Annotated[ExportQuestion, Query()]) -> Response:
        as_csv = question.format == "csv"
        lines = export.charges(engine, question.after, question.limit, as_csv=as_csv)
        return await _streamed(lines, "text/csv" if as_csv else "application/jsonl")

    @router.get(
        "/export/events",
        summary="CloudEvents by position",
        response_class=Response,
        responses=_lines("application/jsonl"),
    )
    async def export_events(question: Annotated[EventExportQuestion, Query()]) -> Response:
        return await _streamed(export.events(engine, question.after, question.limit), "application/jsonl")

    return router


def _stored(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # The events are passed on as they are: what a foreign node writes need not survive being parsed by us.
    return [
        {"position": row["position"], "stored_ms": row["stored_ms"], "event": msgspec.Raw(row["raw"].encode())}
        for row in rows
    ]


def _charge(row: Any) -> dict[str, Any]:
    tags = msgspec.json.decode(row["tags"]) if row["tags"] else {}
    return {**row, "tags": tags, "amount": None if row["amount"] is None else amount.shown(row["amount"])}


async def _streamed(parts: AsyncIterator[str], media_type: str) -> Response:
    # Before anything is answered: a database that is away is then an error, and not a 200 that breaks off.
    first = await anext(parts, "")

    async def all_() -> AsyncIterator[str]:
        yield first
        async for part in parts:
            yield part

    return StreamingResponse(all_(), media_type=media_type)


def _as_told(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _split(rows: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], bool]:
    return rows[:limit], len(rows) > limit
