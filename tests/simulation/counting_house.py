"""Management's ledger in memory, behind the interface of :func:`management.ledger.journal.write`.

Messages are read by the product's own code, and its own pure projections add them up; only the database is not there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from management.ledger.books import Books as HowToCount
from management.ledger.facts import Fact, same_content
from management.ledger.journal import Written, read
from management.ledger.projections import weightiest_ends
from management.ledger.sums import USAGE_SUMS, daily_usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from management.ledger.journal import Entry
    from tests.simulation.life import Life
    from tests.simulation.trace import Trace

TWICE = 0.2
COMMIT_S = 0.02
FAILS = 0.05
"""Share of commits that raise; half of them are written all the same."""


class DatabaseAway(Exception):
    """The commit did not succeed, as far as anybody knows."""


class Books:
    """What is written down, by event id, in the order of its coming."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.conflicts: list[str] = []
        """Ids of events that were told again with another content."""

    def enter(self, entries: Sequence[Entry]) -> Written:
        """One transaction."""
        written = Written()
        for entry in entries:
            if not isinstance(entry, Fact):
                written.quarantined[entry.reason] += 1
            elif (known := self.facts.get(entry.event_id)) is not None:
                written.duplicates += 1
                if not same_content(known.event["raw"], entry.event["raw"]):
                    written.conflicting += 1
                    self.conflicts.append(entry.event_id)
            else:
                self.facts[entry.event_id] = entry
                written.stored[entry.kind] += 1
        return written

    @property
    def charges(self) -> list[dict[str, Any]]:
        """Rows as of the table of charges."""
        return [fact.charge for fact in self.facts.values() if fact.charge is not None]

    @property
    def ends(self) -> list[dict[str, Any]]:
        """Rows as of the table of ends: one for each request that ended."""
        return [end for _, end in weightiest_ends(enumerate(self.facts.values()))]

    @property
    def usage(self) -> dict[str, int]:
        """What the daily rows add up to."""
        days = daily_usage(self.facts.values(), HowToCount())
        return {name: sum(day[place] for day in days) for place, name in enumerate(USAGE_SUMS, -len(USAGE_SUMS))}

    def replayed(self, random: Random) -> dict[str, int]:
        """The sums of other books that heard the same events shuffled, a fifth of them twice."""
        raws = [fact.event["raw"] for fact in self.facts.values()]
        told = [*raws, *(raw for raw in raws if random.random() < TWICE)]
        random.shuffle(told)
        other = Books()
        other.enter([read(raw.encode()) for raw in told])
        return other.usage


class Clerk:
    """Writes for one management at a time; commits take their time and sometimes fail."""

    def __init__(self, books: Books, random: Random, trace: Trace) -> None:
        self.rough = True
        self._books, self._random, self._trace = books, random, trace

    async def write(self, life: Life, entries: Sequence[Entry]) -> Written:
        """What :func:`management.ledger.journal.write` does. Raises :class:`DatabaseAway`."""
        await asyncio.sleep(self._random.random() * COMMIT_S)
        if not life.alive:
            await life.silence()
        fails = self.rough and self._random.random() < FAILS
        written = Written()
        if not fails or self._random.random() < 0.5:
            written = self._books.enter(entries)
            self._trace.add(life.name, f"commits {len(entries)} events, {written.stored.total()} of them new")
        await asyncio.sleep(self._random.random() * COMMIT_S)
        if fails:
            raise DatabaseAway
        return written
