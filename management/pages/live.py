"""Tells open pages that something changed, over server-sent events; they then ask for their part again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response, StreamingResponse

from store.database import reading
from store.tables import EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from management.pages.site import Sources, Visit

LOOK_S = 2.0
"""How often a stream looks for changes."""
STREAM_S_MAX = 600.0
"""A browser opens the next stream by itself, with its cookie, which may have ended."""
STREAMS_MAX = 50
_KEEP_ALIVE_LOOKS = 7
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Live:
    """The streams that are open."""

    def __init__(self, sources: Sources, *, look_s: float = LOOK_S) -> None:
        self._sources = sources
        self._look_s = look_s
        self._open = 0

    async def stream(self, _: Visit) -> Response:
        """One more, or 503 where there are too many."""
        if self._open >= STREAMS_MAX:
            return Response("Too many pages are open.", 503, {"retry-after": "60"})
        return StreamingResponse(self._changes(), headers=_HEADERS, media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[str]:
        self._open += 1
        try:
            yield "retry: 3000\nevent: ready\ndata:\n\n"
            known = await self._state({})
            for look in range(1, int(STREAM_S_MAX / self._look_s)):
                if await self._stopped():
                    return
                state = await self._state(known)
                changed = [name for name, value in state.items() if value != known[name]]
                known = state
                if changed:
                    yield f"event: changed\ndata: {' '.join(changed)}\n\n"
                elif look % _KEEP_ALIVE_LOOKS == 0:
                    yield ":\n\n"
        finally:
            self._open -= 1

    async def _stopped(self) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sources.stop.wait(), self._look_s)
        return self._sources.stop.is_set()

    async def _state(self, known: dict[str, Any]) -> dict[str, Any]:
        sources = self._sources
        return {
            "requests": await self._last_position(known.get("requests")),
            "nodes": sorted((each.node, each.state, each.busy, each.slots) for each, _ in sources.registry.present()),
            "health": sources.readiness.sentences,
        }

    async def _last_position(self, known: int | None) -> int | None:
        try:
            async with reading(self._sources.engine) as connection:
                found: int | None = await connection.scalar(select(func.max(EVENTS.c.position)))
                return found
        except (SQLAlchemyError, OSError):
            return known  # readiness tells of that
