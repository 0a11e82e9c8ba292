"""Nodes: who is there, in what state, at what work, and who was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.pages.filters import link, position
from management.pages.fleet import TROUBLE

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

GONE = 20
PRESENT_MAX = 200
RUNNING_SHOWN = 5


async def show(visit: Visit) -> Response:
    """The page."""
    asked = visit.asked
    model, first = asked.get("model"), position(asked.get("cursor")) or 0
    nodes = await visit.sources.view.nodes(GONE, model)
    present = [node for node in nodes if node["present"]]
    present.sort(key=lambda node: (node["state"] not in TROUBLE, node["model"], node["name"], node["node"]))
    first = first if first < len(present) else 0  # so many are not there any more
    end = first + PRESENT_MAX
    return visit.page(
        "nodes.html",
        model=model,
        asked=asked,
        here=link("/nodes", asked, cursor=asked.get("cursor")),
        present=present[first:end],
        first=first,
        first_link=link("/nodes", asked) if first else None,
        count=len(present),
        next_link=link("/nodes", asked, cursor=str(end)) if end < len(present) else None,
        running_shown=RUNNING_SHOWN,
        away=[node for node in nodes if not node["present"]],
    )
