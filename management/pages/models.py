"""Models: what waits for them, how fast they answer, and their nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.pages import usage_sums
from management.pages.filters import question_of
from management.reading.questions import UsageQuestion
from process.identity import now_ms

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

ABSENT_MAX = 200
"""Models that were used today and have no node now, those with the most requests."""


async def show(visit: Visit) -> Response:
    """The page."""
    now = now_ms()
    today = visit.sources.books.day(now).isoformat()
    question = question_of(UsageQuestion, by=["model"], since=today, until=today)
    models = await visit.sources.view.models(now)
    here = {model["model"] for model in models}
    most, known = await visit.sources.rows(
        usage_sums.sums(question, "requests", None, ABSENT_MAX + len(here)), usage_sums.of_names(question, [*here])
    )
    return visit.page(
        "models.html",
        models=models,
        today={row["name"]: row for row in known},
        absent=[row for row in most if row["name"] not in here][:ABSENT_MAX],
    )
