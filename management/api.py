"""The REST API: charges, usage, requests and their ends, events and nodes. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Response

from management import queries
from management.answers import (
    Charge,
    Charges,
    ChargesQuestion,
    End,
    Ends,
    EndsQuestion,
    ErrorAnswer,
    Events,
    EventsQuestion,
    Nodes,
    RequestTimeline,
    Text,
    UsageQuestion,
    Usages,
)
from store.database import reading
from wire.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.nodes import NodeRegistry
    from wire.presence import Presence

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "A parameter is wrong."},
    401: {"model": ErrorAnswer, "description": "The key is missing or wrong."},
    503: {"model": ErrorAnswer, "description": "The database cannot be read at the moment."},
}
_PRESENT_FIELDS = (
    "name",
    "model",
    "type",
    "version",
    "provider",
    "state",
    "sentence",
    "until_ms",
    "started_ms",
    "slots",
    "busy",
    "parked",
    "service_ms",
    "endpoints",
    "modalities",
    "context_length",
)


def api(engine: AsyncEngine, registry: NodeRegistry) -> APIRouter:
    """The routes below ``/api/v1``."""
    router = APIRouter(prefix="/api/v1", responses=_ERRORS)

    async def rows(statement: Select[Any]) -> list[dict[str, Any]]:
        async with reading(engine) as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    @router.get("/charges", summary="Charges, the newest first", response_model=Charges)
    async def charges(question: Annotated[ChargesQuestion, Query()]) -> dict[str, Any]:
        page, more = _split(await rows(queries.charges(question)), question.limit)
        return {"data": page, "next_cursor": str(page[-1]["position"]) if more else None}

    @router.get("/usage", summary="Sums of charges", response_model=Usages, response_model_exclude_unset=True)
    async def usage(question: Annotated[UsageQuestion, Query()]) -> dict[str, Any]:
        page, more = _split(await rows(queries.usage(question)), question.limit)
        cursor = queries.cursor_of_group(page[-1], queries.groups(question)) if more else None
        return {"data": page, "next_cursor": cursor}

    @router.get("/events", summary="Events, the newest first", response_model=Events)
    async def events(question: Annotated[EventsQuestion, Query()]) -> Response:
        page, more = _split(await rows(queries.events(question)), question.limit)
        cursor = str(page[-1]["position"]) if more else None
        return _as_told({"data": _stored(page), "next_cursor": cursor})

    @router.get("/ends", summary="How requests ended, the newest first", response_model=Ends)
    async def ends(question: Annotated[EndsQuestion, Query()]) -> dict[str, Any]:
        page, more = _split(await rows(queries.ends(question)), question.limit)
        return {"data": page, "next_cursor": str(page[-1]["position"]) if more else None}

    @router.get(
        "/requests/{request_id}",
        summary="Everything that is known of one request",
        response_model=RequestTimeline,
        responses={404: {"model": ErrorAnswer, "description": "Nothing was ever told of it."}},
    )
    async def request(request_id: Annotated[Text, Path()]) -> Response:
        async with reading(engine) as connection:  # one state of the database for all three
            told = [dict(row) for row in (await connection.execute(queries.timeline(request_id))).mappings()]
            end = (await connection.execute(queries.end_of(request_id))).mappings().one_or_none()
            charge = (await connection.execute(queries.charge_of(request_id))).mappings().one_or_none()
        if not told:
            raise NotFound("Nothing is known of this request.")
        return _as_told(
            {
                "request_id": request_id,
                "end": End(**end).model_dump() if end else None,
                "charge": Charge(**charge).model_dump() if charge else None,
                "events": _stored(told),
            }
        )

    @router.get("/nodes", summary="Nodes that are there, and the latest of those that are gone", response_model=Nodes)
    async def nodes(gone: Annotated[int, Query(ge=0, le=1000, description="How many of them at most.")] = 100) -> Any:
        present = registry.present()
        ids = {presence.node for presence, _ in present}
        told = {row["node"]: row for row in await rows(queries.nodes_named(sorted(ids)))} if ids else {}
        lately = await rows(queries.nodes(gone + len(ids))) if gone else []
        away = [row for row in lately if row["node"] not in ids][:gone]
        data = [_present(presence, age, told.get(presence.node)) for presence, age in present]
        return {"data": [*data, *(_gone(row) for row in away)]}

    return router


def _stored(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # The events are passed on as they are: what a foreign node writes need not survive being parsed by us.
    return [
        {"position": row["position"], "stored_ms": row["stored_ms"], "event": msgspec.Raw(row["raw"].encode())}
        for row in rows
    ]


def _as_told(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _split(rows: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], bool]:
    return rows[:limit], len(rows) > limit


def _present(presence: Presence, age_s: float, told: dict[str, Any] | None) -> dict[str, Any]:
    node = {name: getattr(presence, name) for name in _PRESENT_FIELDS}
    last = _last_event(told) if told else None
    return {"node": presence.node, "present": True, "heard_ms_ago": round(age_s * 1000), "last_event": last, **node}


def _gone(told: dict[str, Any]) -> dict[str, Any]:
    names = ("node", "name", "model", "version", "provider")
    node = {name: told[name] for name in names}
    return {"present": False, "type": told["node_type"], "last_event": _last_event(told), **node}


def _last_event(told: dict[str, Any]) -> dict[str, Any]:
    names = ("message", "error_code", "until_ms")
    return {"type": told["last_type"], "time_ms": told["last_ms"], **{name: told[name] for name in names}}
