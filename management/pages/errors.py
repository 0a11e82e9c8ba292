"""What went wrong: nodes in trouble now, and everything that was told of failures, the latest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, union_all

from management.pages.filters import chosen, link
from management.pages.fleet import in_trouble
from management.pages.words import EVENTS as KINDS
from store.tables import EVENTS
from wire import codec
from wire.errors import InvalidRequest, UndecodableMessage
from wire.event import PREFIX

if TYPE_CHECKING:
    from sqlalchemy import Select
    from starlette.responses import Response

    from management.pages.site import Visit

ROWS = 50
OF_REQUESTS = ("request.failed", "request.dead", "request.expired", "request.abandoned")
OF_NODES = (
    "node.rate_limited",
    "node.quota_exhausted",
    "node.authentication_failed",
    "node.misconfigured",
    "node.unreachable",
    "node.quarantined",
)
TYPES = {"everything": OF_REQUESTS + OF_NODES, "requests": OF_REQUESTS, "nodes": OF_NODES}


async def show(visit: Visit) -> Response:
    """The page."""
    asked = visit.asked
    of = chosen(asked, "of", tuple(TYPES))
    (rows,) = await visit.sources.rows(_events(TYPES[of], asked.get("model"), _position(asked.get("cursor"))))
    more, rows = len(rows) > ROWS, rows[:ROWS]
    return visit.page(
        "errors.html",
        asked=asked,
        of=of,
        link=lambda **changes: link("/errors", asked, **changes),
        troubled=in_trouble(visit.sources),
        rows=[_shown(row) for row in rows],
        kinds=KINDS,
        next_link=link("/errors", asked, cursor=str(rows[-1]["position"])) if more else None,
    )


def _events(types: tuple[str, ...], model: str | None, before: int | None) -> Select[Any]:
    columns = [
        EVENTS.c[name] for name in ("position", "type", "time_ms", "request_id", "model", "node", "key_id", "raw")
    ]
    # Each type by its own index: among millions of charges the few failures would else be looked for one by one.
    parts = []
    for type_ in types:
        part = select(*columns).where(EVENTS.c.type == PREFIX + type_)
        if model is not None:
            part = part.where(EVENTS.c.model == model)
        if before is not None:
            part = part.where(EVENTS.c.position < before)
        parts.append(select(part.order_by(EVENTS.c.position.desc()).limit(ROWS + 1).subquery()))
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


def _position(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidRequest("cursor: it was not made by this page.")
    return int(cursor)
