"""Models: their nodes, how busy they are, and what they did today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.pages import usage_sums
from management.pages.filters import question_of
from management.pages.fleet import models_of
from management.questions import UsageQuestion
from process.identity import now_ms

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

MODELS_MAX = 200


async def show(visit: Visit) -> Response:
    """The page."""
    today = visit.sources.books.day(now_ms()).isoformat()
    question = question_of(UsageQuestion, by=["model"], since=today, until=today)
    (used,) = await visit.sources.rows(usage_sums.sums(question, "requests", None, MODELS_MAX))
    models = models_of(visit.sources)
    here = {model.name for model in models}
    return visit.page(
        "models.html",
        models=models,
        today={row["name"]: row for row in used},
        absent=[row for row in used if row["name"] not in here],
    )
