"""Dead letters: requests that took three nodes with them, put aside until a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.ledger.facts import message_of
from management.pages.filters import link, question_of
from management.reading import fleet_queries, queries
from management.reading.fleet_questions import DeadLettersQuestion

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

ROWS = 50


async def show(visit: Visit) -> Response:
    """The page."""
    asked = visit.asked
    filters = {name: asked[name] for name in ("model", "cursor") if name in asked}
    (found,) = await visit.sources.rows(
        fleet_queries.dead_letters(question_of(DeadLettersQuestion, limit=ROWS, **filters))
    )
    rows = found[:ROWS]
    cursor = queries.cursor_of_time(rows[-1]) if len(found) > ROWS else None
    return visit.page(
        "dead_letters.html",
        asked=asked,
        link=lambda **changes: link("/dead-letters", asked, **changes),
        rows=[row | {"message": message_of(row["raw"])} for row in rows],
        next_link=link("/dead-letters", asked, cursor=cursor) if cursor else None,
    )
