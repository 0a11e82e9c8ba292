"""Nodes: who is there, in what state, at what work, and who was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.pages.fleet import TROUBLE

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

GONE = 20
PRESENT_MAX = 200
RUNNING_SHOWN = 5


async def show(visit: Visit) -> Response:
    """The page."""
    model = visit.asked.get("model")
    nodes = await visit.sources.view.nodes(GONE, model)
    present = [node for node in nodes if node["present"]]
    present.sort(key=lambda node: (node["state"] not in TROUBLE, node["model"], node["name"], node["node"]))
    return visit.page(
        "nodes.html",
        model=model,
        present=present[:PRESENT_MAX],
        hidden=len(present[PRESENT_MAX:]),
        running_shown=RUNNING_SHOWN,
        away=[node for node in nodes if not node["present"]],
    )
