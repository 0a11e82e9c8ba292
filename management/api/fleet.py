"""The REST API of the fleet: who is there, what operators do, what went wrong, and who was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from management.api.answers import ErrorAnswer, Nodes
from management.api.fleet_answers import (
    ActionShown,
    ActionsShown,
    AlertsShown,
    DeadLettersShown,
    ErrorsShown,
    ModelsShown,
)
from management.fleet.actions import action_shown
from management.ledger.facts import message_of
from management.reading import error_view, fleet_queries, queries
from management.reading.fleet_questions import (  # noqa: TC001 (FastAPI reads annotations when a route is made)
    ActionsQuestion,
    AlertsQuestion,
    AnyAction,
    DeadLettersQuestion,
    ErrorsQuestion,
    NodesQuestion,
)
from management.reading.questions import NoQuestion  # noqa: TC001
from process.identity import now_ms
from store.database import reading
from wire.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.access import Access
    from management.fleet.actions import Actions
    from management.fleet.view import FleetView
    from management.ledger.books import Books

_ACTING: dict[int | str, dict[str, Any]] = {
    202: {"model": ActionShown, "description": "It is still under way: ask for it again."},
    403: {"model": ErrorAnswer, "description": "This key may only read, or another site's page asks."},
    404: {"model": ErrorAnswer, "description": "There is no such node, model, request or letter."},
    409: {"model": ErrorAnswer, "description": "It cannot be done as things are."},
    413: {"model": ErrorAnswer, "description": "The body is too large."},
    500: {"model": ErrorAnswer, "description": "It failed in a way that nobody foresaw."},
}


def fleet_api(engine: AsyncEngine, view: FleetView, actions: Actions, access: Access, books: Books) -> APIRouter:
    """The routes, to be mounted below ``/api/v1``."""
    router = APIRouter()

    @router.get("/nodes", summary="Nodes that are there, and the latest of those that are gone", response_model=Nodes)
    async def nodes(question: Annotated[NodesQuestion, Query()]) -> Any:
        return {"data": await view.nodes(question.gone, question.model)}

    @router.get("/models", summary="Models: nodes, requests, speed", response_model=ModelsShown)
    async def models(_: Annotated[NoQuestion, Query()]) -> Any:
        return {"data": await view.models(now_ms())}

    @router.get("/dead-letters", summary="Requests that wait for a person", response_model=DeadLettersShown)
    async def dead_letters(question: Annotated[DeadLettersQuestion, Query()]) -> Any:
        async with reading(engine) as connection:
            found = [dict(row) for row in (await connection.execute(fleet_queries.dead_letters(question))).mappings()]
        page = found[: question.limit]
        cursor = queries.cursor_of_time(page[-1]) if len(found) > question.limit else None
        return {"data": [_letter(row) for row in page], "next_cursor": cursor}

    @router.post(
        "/actions",
        summary="Pause, resume, drain, cancel, replay or discard",
        response_model=ActionShown,
        responses=_ACTING,
    )
    async def act(action: AnyAction, request: Request, response: Response) -> Any:
        person = request.state.person
        access.check_action(person, request.headers)
        done = await actions.act(person, action)
        if done["state"] == "running":
            response.status_code = 202
        return done

    @router.get("/actions", summary="What operators did, the latest first", response_model=ActionsShown)
    async def list_actions(question: Annotated[ActionsQuestion, Query()]) -> Any:
        async with reading(engine) as connection:
            found = [dict(row) for row in (await connection.execute(fleet_queries.actions(question))).mappings()]
        page = [action_shown(row, now_ms()) for row in found[: question.limit]]
        return {"data": page, "next_cursor": str(page[-1]["action_id"]) if len(found) > question.limit else None}

    @router.get(
        "/actions/{action_id}",
        summary="One of them",
        response_model=ActionShown,
        responses={404: {"model": ErrorAnswer, "description": "There is no such action."}},
    )
    async def action(action_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> Any:
        found = await actions.one(action_id)
        if found is None:
            raise NotFound("There is no such action.")
        return found

    @router.get("/errors", summary="What went wrong, the latest first", response_model=ErrorsShown)
    async def errors(question: Annotated[ErrorsQuestion, Query()]) -> Any:
        return await error_view.errors(engine, books, question, now_ms())

    @router.get("/alerts", summary="Troubles that last until someone acts", response_model=AlertsShown)
    async def alerts(question: Annotated[AlertsQuestion, Query()]) -> Any:
        return await error_view.alerts(engine, question)

    return router


def _letter(row: dict[str, Any]) -> dict[str, Any]:
    names = ("request_id", "model", "key_id")
    return {**{name: row[name] for name in names}, "died_ms": row["time_ms"], "message": message_of(row["raw"])}
