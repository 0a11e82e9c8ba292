"""Requests and how they ended: filters in the address, the newest first, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import select
from starlette.responses import RedirectResponse

from management.pages.filters import link, moment, question_of
from management.pages.words import ENDS as STATUSES
from management.reading import queries
from management.reading.questions import EndsQuestion
from store.money_tables import PRICED
from store.tables import CHARGES
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from starlette.responses import Response

    from management.pages.site import Sources, Visit

ROWS = 50
_SHOWN = (
    "request_id",
    "endpoint",
    "stream",
    "prompt_tokens",
    "completion_tokens",
    "total_ms",
    "first_token_ms",
    "attempt",
)
_FILTERS = ("status", "model", "key_id", "node", "cursor")


async def show(visit: Visit) -> Response:
    """The list, or one request whose id was asked for."""
    asked = visit.asked
    if "id" in asked:
        return RedirectResponse(f"/requests/{quote(asked['id'], safe='')}", 303)
    zone, sentence = visit.sources.books.time_zone, None
    try:
        question = question_of(
            EndsQuestion,
            **{name: asked[name] for name in _FILTERS if name in asked},
            since=moment(asked.get("since"), zone, "from"),
            until=moment(asked.get("until"), zone, "until"),
            limit=ROWS,
        )
        rows, next_cursor = await ends(visit.sources, question)
    except InvalidRequest as error:
        rows, next_cursor, sentence = [], None, error.message
    return visit.page(
        "requests.html",
        status=200 if sentence is None else 400,
        asked=asked,
        link=lambda **changes: link("/requests", asked, **changes),
        statuses=STATUSES,
        rows=rows,
        sentence=sentence,
        next_link=link("/requests", asked, cursor=next_cursor) if next_cursor else None,
        models=sorted({presence.model for presence, _ in visit.sources.registry.present()}),
    )


async def ends(sources: Sources, question: EndsQuestion) -> tuple[list[dict[str, Any]], str | None]:
    """A page of ends, each with its charge if there is one, and the cursor of the next page."""
    (page,) = await sources.rows(queries.ends(question))
    more, page = len(page) > question.limit, page[: question.limit]
    (charged,) = await sources.rows(_charges_of([row["request_id"] for row in page]))
    charges = {row["request_id"]: row for row in charged}
    for row in page:
        row["charge"] = charges.get(row["request_id"])
    return page, queries.cursor_of_time(page[-1]) if more else None


def _charges_of(request_ids: Sequence[str]) -> Select[Any]:
    columns = [CHARGES.c[name] for name in _SHOWN]
    statement = select(*columns, PRICED.c.amount, PRICED.c.currency)
    statement = statement.outerjoin(PRICED, PRICED.c.position == CHARGES.c.position)
    return statement.where(CHARGES.c.request_id.in_(request_ids))
