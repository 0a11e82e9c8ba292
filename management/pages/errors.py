"""What went wrong: by what it is, with a remedy for each; and everything that was told of it, the latest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, union_all

from management.pages.filters import chosen, link, position, question_of
from management.pages.fleet import in_passing, open_alerts
from management.reading import error_view, queries
from management.reading.fleet_questions import ErrorsQuestion
from process.identity import now_ms
from store.tables import EVENTS
from wire import codec
from wire.errors import UndecodableMessage
from wire.event import PREFIX

if TYPE_CHECKING:
    from sqlalchemy import Select
    from starlette.responses import Response

    from management.pages.site import Visit

ROWS = 50
NOW_MAX = 20
"""Troubles of this moment that stand above the others."""
OF_REQUESTS = ("request.failed", "request.dead", "request.expired", "request.abandoned")
OF_NODES = (
    "node.rate_limited",
    "node.quota_exhausted",
    "node.authentication_failed",
    "node.misconfigured",
    "node.unreachable",
    "node.engine_died",
    "node.quarantined",
)
TYPES = {"requests": OF_REQUESTS, "nodes": OF_NODES}
GROUPS = "groups"
"""The errors by fingerprint, which the page begins with."""


async def show(visit: Visit) -> Response:
    """The page."""
    asked, sources = visit.asked, visit.sources
    of = chosen(asked, "of", (GROUPS, *TYPES))
    groups, rows, cursor = await (_grouped(visit) if of == GROUPS else _told(visit, of))
    alerts, passing = await open_alerts(sources), in_passing(sources)
    return visit.page(
        "errors.html",
        asked=asked,
        of=of,
        link=lambda **changes: link("/errors", asked, **changes),
        alerts=alerts[:NOW_MAX],
        passing=passing[: max(0, NOW_MAX - len(alerts))],
        more_now=max(0, len(alerts) + len(passing) - NOW_MAX),
        groups=groups,
        rows=rows,
        next_link=link("/errors", asked, cursor=cursor) if cursor else None,
    )


async def _grouped(visit: Visit) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]:
    filters = {name: visit.asked[name] for name in ("model", "key_id", "cursor") if name in visit.asked}
    question = question_of(ErrorsQuestion, limit=ROWS, **filters)
    answer = await error_view.errors(visit.sources.engine, visit.sources.books, question, now_ms())
    return answer["data"], [], answer["next_cursor"]


async def _told(visit: Visit, of: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]:
    asked = visit.asked
    (found,) = await visit.sources.rows(events_told(TYPES[of], asked, position(asked.get("cursor"))))
    rows = found[:ROWS]
    return [], [_shown(row) for row in rows], str(rows[-1]["position"]) if len(found) > ROWS else None


def events_told(types: tuple[str, ...], asked: dict[str, str], before: int | None) -> Select[Any]:
    """A page of events of these types before a position and one more, the latest first."""
    columns = [
        EVENTS.c[name] for name in ("position", "type", "time_ms", "request_id", "model", "node", "key_id", "raw")
    ]
    # Each type by its own index: among millions of charges the few failures would else be looked for one by one.
    parts = []
    for type_ in types:
        wanted = {"type": PREFIX + type_, "model": asked.get("model"), "key_id": asked.get("key_id")}
        place = None if before is None else [before]
        part = queries.page(select(*columns), EVENTS.c, wanted, ("position",), ROWS, place)
        parts.append(select(part.subquery()))
    together = union_all(*parts).subquery()
    return select(together).order_by(together.c.position.desc()).limit(ROWS + 1)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    kind = row["type"].removeprefix(PREFIX)
    found: dict[str, Any] = {"message": None, "code": None}
    try:
        raw = codec.decode_event(row["raw"].encode()).data
        data = codec.decode_request_data(raw) if kind in OF_REQUESTS else codec.decode_node_data(raw)
        found = {"message": data.message, "code": data.error_code}
    except UndecodableMessage:
        pass  # it was stored by another version: its type and time still tell something
    return {**row, "kind": kind, **found}
