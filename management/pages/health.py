"""Health: what management lacks, what it stored since it started, and what could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from management.reading import queries
from store.tables import EVENTS

if TYPE_CHECKING:
    from sqlalchemy import Select
    from starlette.responses import Response

    from management.pages.site import Visit

QUARANTINED = 50


async def show(visit: Visit) -> Response:
    """The page, also while the database is away."""
    sources = visit.sources
    quarantine: list[dict[str, Any]] | None
    try:
        quarantine, (last,) = await sources.rows(queries.quarantine(QUARANTINED), _last_event())
    except (SQLAlchemyError, OSError):
        quarantine, last = None, {"position": None, "stored_ms": None}
    return visit.page(
        "health.html",
        sentences=sources.readiness.sentences,
        nodes=len(sources.registry),
        last=last,
        quarantine=quarantine,
        stored=sorted(sources.metrics.stored().items(), key=lambda one: -one[1]),
        books=sources.books,
        database=sources.engine.dialect.name,
    )


def _last_event() -> Select[Any]:
    last = select(func.max(EVENTS.c.position)).scalar_subquery()
    found = select(EVENTS.c.stored_ms).where(EVENTS.c.position == last).scalar_subquery()
    return select(last.label("position"), found.label("stored_ms"))
