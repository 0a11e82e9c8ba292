"""What of the fleet needs somebody now: alerts that are open, and nodes in trouble that help themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from management.reading import error_view
from management.reading.fleet_questions import AlertsQuestion
from wire.presence import IRREVERSIBLE

if TYPE_CHECKING:
    from management.pages.site import Sources
    from wire.presence import Presence

ALERTS_MAX = 1000
PASSING = frozenset(("rate_limited", "unreachable"))
TROUBLE = IRREVERSIBLE | PASSING


async def open_alerts(sources: Sources) -> list[dict[str, Any]]:
    """Troubles that last until somebody acts."""
    answer = await error_view.alerts(sources.engine, AlertsQuestion(open=True, limit=ALERTS_MAX))
    alerts: list[dict[str, Any]] = answer["data"]
    return alerts


def in_passing(sources: Sources) -> list[Presence]:
    """Nodes in a trouble that they try to leave by themselves."""
    found = [presence for presence, _ in sources.registry.present() if presence.state in PASSING]
    return sorted(found, key=lambda node: (node.model, node.name))
