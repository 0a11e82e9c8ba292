"""One request: what happened to it and when, every attempt, what it used and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from management.ledger.projections import end_told
from management.pages.timeline import SCALE, timeline_of
from management.reading import queries
from wire.errors import Forbidden, InvalidRequest, NotFound

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Visit

ID_CHARS_MAX = 512


async def show(visit: Visit) -> Response:
    """The page."""
    id_ = _id(visit)
    told, end, charge, prompt = await visit.sources.rows(
        queries.timeline(id_), queries.end_of(id_), queries.charge_of(id_), queries.prompt_sizes(id_)
    )
    if not told and not end:
        raise NotFound("Nothing is known of this request. It may not have ended yet, or its events are deleted.")
    timeline = timeline_of(told) if told else None
    return visit.page(
        "request.html",
        request_id=id_,
        timeline=timeline,
        scale=SCALE,
        end=_one(end) or end_told(told),
        is_discarded=timeline is not None and any(one["kind"] == "request.discarded" for one in timeline.told),
        charge=_charge(_one(charge)),
        prompt=_one(prompt),
        is_cut=len(told) == queries.TIMELINE_EVENTS_MAX,
    )


async def show_prompt(visit: Visit) -> Response:
    """What its client sent, where that is stored: for operators."""
    if not visit.viewer.operates:
        raise Forbidden("What clients send is shown to operators only.")
    id_ = _id(visit)
    (found,) = await visit.sources.rows(queries.prompt_of(id_))
    if not found:
        raise NotFound("No prompt of this request is stored.")
    stored = found[0]["body"]
    shown = {"body": stored.decode(errors="replace"), "is_cut": len(stored) < found[0]["body_bytes"]}
    return visit.page("prompt.html", request_id=id_, prompt=found[0] | shown)


def _id(visit: Visit) -> str:
    id_: str = visit.request.path_params["request_id"]
    if "\0" in id_ or len(id_) > ID_CHARS_MAX:
        raise InvalidRequest("This is no id of a request.")
    return id_


def _one(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return rows[0] if rows else None


def _charge(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return row and row | {"tags": msgspec.json.decode(row["tags"]) if row["tags"] else {}}
