"""What operators do, from forms on the pages of what it is done to; and the list of all that was done."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import TypeAdapter
from starlette.responses import RedirectResponse

from management.fleet.actions import action_shown
from management.pages.door import own_path
from management.pages.filters import checked, link, question_of
from management.pages.site import TOLD
from management.reading import fleet_queries
from management.reading.fleet_questions import ActionsQuestion, AnyAction
from process.identity import now_ms

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

ROWS = 50
_FIELDS = ("action", "scope", "subject", "request_id", "reason")
_ACTION: TypeAdapter[AnyAction] = TypeAdapter(AnyAction)


async def show(visit: Visit) -> Response:
    """What was done, the latest first."""
    asked = visit.asked
    filters = {name: asked[name] for name in ("by", "action", "subject", "cursor") if name in asked}
    (found,) = await visit.sources.rows(fleet_queries.actions(question_of(ActionsQuestion, limit=ROWS, **filters)))
    rows = [action_shown(row, now_ms()) for row in found[:ROWS]]
    more = len(found) > ROWS
    return visit.page(
        "actions.html",
        asked=asked,
        link=lambda **changes: link("/actions", asked, **changes),
        rows=rows,
        next_link=link("/actions", asked, cursor=str(rows[-1]["action_id"])) if more else None,
    )


async def do(visit: Visit) -> Response:
    """Do what a form asks for, and lead back to where it was, with what came of it.

    Raises :class:`wire.errors.FleetError` where it failed at once.
    """
    wanted = {name: visit.form[name] for name in _FIELDS if visit.form.get(name)}
    action = checked(lambda: _ACTION.validate_python(wanted))
    done = await visit.sources.actions.act(visit.viewer.person, action)
    return RedirectResponse(_back(visit.form.get("back", "/actions"), done["action_id"]), 303)


def _back(address: str, action_id: int) -> str:
    parts = urlsplit(own_path(address))
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name != TOLD]
    return f"{parts.path}?{urlencode([*kept, (TOLD, str(action_id))])}"
