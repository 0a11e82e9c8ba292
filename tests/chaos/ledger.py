"""What management has written down: its rows from the database file, its sums through its REST API."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class LedgerReader:
    """Reads what is new since the last time."""

    file: Path
    charges: list[dict[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    """As they were sent."""
    usage: dict[str, int] = field(default_factory=dict)
    """What the API says the charges add up to, over everything."""
    charged: int = 0
    """Charges over everything."""
    _charges_through: int = 0
    _events_through: int = 0

    async def read(self, url: str) -> None:
        """Fill in the charges and events that came since the last call, oldest first, and the sums."""
        await asyncio.to_thread(self._read_file)
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(f"{url}/api/v1/usage") as response,
        ):
            self.usage = (await response.json())["data"][0]

    def all_events(self) -> list[str]:
        """Every event of the run, as it was sent."""
        with sqlite3.connect(f"file:{self.file}?mode=ro", uri=True) as connection:
            found = [raw for (raw,) in connection.execute("SELECT raw FROM events ORDER BY position")]
        connection.close()
        return found

    def _read_file(self) -> None:
        connection = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            query = "SELECT * FROM charges WHERE position > ? ORDER BY position"
            self.charges = [dict(row) for row in connection.execute(query, (self._charges_through,))]
            query = "SELECT position, raw FROM events WHERE position > ? ORDER BY position"
            events = connection.execute(query, (self._events_through,)).fetchall()
            (self.charged,) = connection.execute("SELECT count(*) FROM charges").fetchone()
        finally:
            connection.close()
        self.events = [row["raw"] for row in events]
        self._charges_through = max((row["position"] for row in self.charges), default=self._charges_through)
        self._events_through = max((row["position"] for row in events), default=self._events_through)
