"""Nodes: who is there, in what state and how busy, and who was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.pages.fleet import TROUBLE, gone

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

GONE = 20
PRESENT_MAX = 500


async def show(visit: Visit) -> Response:
    """The page."""
    model = visit.asked.get("model")
    present = [one for one in visit.sources.registry.present() if model in (None, one[0].model)]
    present.sort(key=lambda one: (one[0].state not in TROUBLE, one[0].model, one[0].name, one[0].node))
    away = [row for row in await gone(visit.sources, GONE) if model in (None, row["model"])]
    return visit.page(
        "nodes.html", model=model, present=present[:PRESENT_MAX], hidden=len(present[PRESENT_MAX:]), away=away
    )
