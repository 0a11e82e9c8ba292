"""Dead letters: requests that took three nodes with them, put aside until a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.pages.filters import link, question_of
from management.pages.requests import ROWS, ends
from management.questions import EndsQuestion

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit


async def show(visit: Visit) -> Response:
    """The page."""
    asked = visit.asked
    filters = {name: asked[name] for name in ("model", "cursor") if name in asked}
    rows, cursor = await ends(visit.sources, question_of(EndsQuestion, status="dead", limit=ROWS, **filters))
    return visit.page(
        "dead_letters.html",
        asked=asked,
        rows=rows,
        next_link=link("/dead-letters", asked, cursor=cursor) if cursor else None,
    )
