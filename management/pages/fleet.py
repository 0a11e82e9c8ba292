"""Nodes and models as they are now, from heartbeats and from what was told last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from management import queries
from wire.presence import IRREVERSIBLE

if TYPE_CHECKING:
    from management.pages.site import Sources
    from wire.presence import Presence

TROUBLE = IRREVERSIBLE | {"rate_limited", "unreachable"}


@dataclass
class Model:
    """All nodes of one model together."""

    name: str
    nodes: list[Presence] = field(default_factory=list)

    @property
    def slots(self) -> int:
        """Of nodes that are ready."""
        return sum(node.slots for node in self.nodes if node.state == "ready")

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return sum(node.busy for node in self.nodes)

    @property
    def ready(self) -> int:
        """Nodes that are."""
        return sum(node.state == "ready" for node in self.nodes)

    @property
    def state(self) -> str:
        """That of the node that is best off."""
        states = [node.state for node in self.nodes]
        return "ready" if "ready" in states else states[0]

    @property
    def sentence(self) -> str | None:
        """Why it is not ready."""
        return next((node.sentence for node in self.nodes if node.state == self.state and node.sentence), None)

    @property
    def service_ms(self) -> int | None:
        """How long a request holds a slot, over all nodes that know."""
        known = [node.service_ms for node in self.nodes if node.service_ms is not None]
        return sum(known) // len(known) if known else None


def models_of(sources: Sources) -> list[Model]:
    """Every model that a node is there for, by name."""
    found: dict[str, Model] = {}
    for presence, _ in sources.registry.present():
        found.setdefault(presence.model, Model(presence.model)).nodes.append(presence)
    return [found[name] for name in sorted(found)]


def in_trouble(sources: Sources) -> list[Presence]:
    """Nodes that somebody should look at, those first that do not help themselves."""
    found = [presence for presence, _ in sources.registry.present() if presence.state in TROUBLE]
    return sorted(found, key=lambda node: (node.state not in IRREVERSIBLE, node.model, node.name))


async def gone(sources: Sources, limit: int) -> list[dict[str, Any]]:
    """Nodes that are not there any more, the latest first."""
    here = {presence.node for presence, _ in sources.registry.present()}
    (lately,) = await sources.rows(queries.nodes(limit + len(here)))
    return [row for row in lately if row["node"] not in here][:limit]
