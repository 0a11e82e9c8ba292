"""Troubles that last until someone acts: noticed in heartbeats, written down once, cleared when nodes have recovered.

Heartbeats and not events, for they tell what is so now: a node that was killed never says that it has recovered, and a
management that was away has missed nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from management.lookout import Lookout
from management.remedies import remedy_of
from process.identity import now_ms
from process.logging import Log
from store.alerts import Cause, clear_alert, open_alert, open_causes
from store.database import reading, writing
from wire.presence import IRREVERSIBLE, PRESENCE_EVERY_S, PRESENCE_LOST_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from broker.interface import Broker
    from management.fleet.nodes import NodeRegistry
    from management.metrics import Metrics
    from wire.presence import Presence

log = Log("management")

LOOK_EVERY_S = 1.0
QUIET_S = 2 * PRESENCE_EVERY_S
"""Who hears nobody at all for so long may have lost the broker: that nodes are silent says nothing then."""
SENTENCE_CHARS_MAX = 1000
CAUSES_MAX = 1_000
"""Open at once: a flood of forged nodes opens no more."""


@dataclass
class Trouble:
    """The nodes that have it, and what one of them says."""

    sentence: str
    nodes: int = 0


def troubles(presences: Iterable[Presence]) -> dict[Cause, Trouble]:
    """What is wrong now, by what nodes say."""
    found: dict[Cause, Trouble] = {}
    for presence in presences:
        if presence.state in IRREVERSIBLE:
            cause = Cause(presence.state, presence.model, presence.provider or "")
            if cause in found or len(found) < CAUSES_MAX:
                sentence = presence.sentence or remedy_of("node", presence.state).sentence
                found.setdefault(cause, Trouble(sentence[:SENTENCE_CHARS_MAX])).nodes += 1
    return found


def unknown(presences: Iterable[Presence]) -> set[tuple[str, str]]:
    """Models and their providers of which nothing is known: nodes of theirs are paused, and none is at work."""
    paused: set[tuple[str, str]] = set()
    working: set[tuple[str, str]] = set()
    for presence in presences:
        where = presence.model, presence.provider or ""
        if presence.state == "paused":
            paused.add(where)
        elif presence.state in ("ready", "rate_limited"):
            working.add(where)
    return paused - working


class Watch:
    """Opens and clears alerts in the database. ``changed`` is called when people are to be told."""

    def __init__(
        self,
        engine: AsyncEngine,
        broker: Broker,
        registry: NodeRegistry,
        metrics: Metrics,
        heard_at: Callable[[], float],
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._engine = engine
        self._broker = broker
        self._registry = registry
        self._metrics = metrics
        self._heard_at = heard_at
        self._hears_since: float | None = None
        self._open: set[Cause] = set()
        self._lookout = Lookout(self.look, LOOK_EVERY_S, sentence="Alerts cannot be kept.", action="alerts_failed")

    def heard(self, presence: Presence) -> None:
        """Take a heartbeat; the registry has it already."""
        cause = Cause(presence.state, presence.model, presence.provider or "")
        if presence.state in IRREVERSIBLE and cause not in self._open:
            self._lookout.soon()

    async def run(self) -> None:
        """Look for ever."""
        await self._lookout.run()

    async def look(self) -> None:
        """Compare what is so with what is written down. Raises the database's errors."""
        presences = [presence for presence, _ in self._registry.present()]
        found = troubles(presences)
        self._show(self._open | found.keys())  # also while the database is away
        async with reading(self._engine) as connection:
            self._open = await open_causes(connection)
        for cause in sorted(found.keys() - self._open):
            await self._raise(cause, found[cause])
        if self._silence_counts():
            hidden = unknown(presences)
            for cause in sorted(self._open - found.keys()):
                if (cause.model, cause.provider) not in hidden:
                    await self._clear(cause)
                    self._open.remove(cause)
        self._open |= found.keys()
        self._show(self._open)

    def _show(self, causes: set[Cause]) -> None:
        for code in IRREVERSIBLE:
            self._metrics.alerts_open[code].set(sum(cause.code == code for cause in causes))

    async def _raise(self, cause: Cause, trouble: Trouble) -> None:
        async with writing(self._engine) as connection:
            is_new = await open_alert(connection, cause, trouble.sentence, trouble.nodes, now_ms())
        if is_new:
            log.error(trouble.sentence, action="alert_opened", code=cause.code, model=cause.model, nodes=trouble.nodes)
            self.changed()

    async def _clear(self, cause: Cause) -> None:
        async with writing(self._engine) as connection:
            was_open = await clear_alert(connection, cause, now_ms())
        if was_open:
            log.info("A trouble is over.", action="alert_cleared", code=cause.code, model=cause.model)
            self.changed()

    def _silence_counts(self) -> bool:
        """Whether all nodes that are there must have been heard by now."""
        now = asyncio.get_running_loop().time()
        if not self._broker.connected or now - self._heard_at() > QUIET_S:
            self._hears_since = None
            return False
        if self._hears_since is None:
            self._hears_since = now
        return now - self._hears_since >= PRESENCE_LOST_S
