"""What management has written down, through its REST API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

CHARGES_PER_PAGE = 1000
EVENTS_PER_PAGE = 200


@dataclass
class LedgerReader:
    """Reads what is new since the last time. ``url`` is asked each time: management moves."""

    url: Callable[[], str]
    charges: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    """The sums over everything."""
    _charges_through: int = 0
    _events_through: int = 0

    async def read(self) -> None:
        """Fill in the charges and events that came since the last call, oldest first, and the sums."""
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            raw = await self._news(session, "events", EVENTS_PER_PAGE, self._events_through)
            charges = await self._news(session, "charges", CHARGES_PER_PAGE, self._charges_through, of_charge=True)
            async with session.get(f"{self.url()}/api/v1/usage") as response:
                self.usage = (await response.json())["data"][0]
        self.events = [row["event"] for row in raw]
        self.charges = charges
        self._events_through = max((row["position"] for row in raw), default=self._events_through)

    async def _news(
        self, session: aiohttp.ClientSession, what: str, limit: int, through: int, *, of_charge: bool = False
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        first_cursor: int | None = None
        while True:
            params = {"limit": str(limit), **({"cursor": cursor} if cursor else {})}
            async with session.get(f"{self.url()}/api/v1/{what}", params=params) as response:
                page = await response.json()
            rows += page["data"]
            cursor = page["next_cursor"]
            if first_cursor is None and cursor:
                first_cursor = int(cursor)
            if cursor is None or int(cursor) <= through:
                break
        rows.reverse()
        return rows
