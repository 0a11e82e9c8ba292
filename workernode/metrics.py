"""What a node counts, for Prometheus."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

from workernode.remote.stated import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.remote.pace import CredentialPace
    from workernode.remote.stated import Kind


class NodeMetrics:
    """One per process; the registry is handed to the health server."""

    def __init__(self, slots: int) -> None:
        self.registry = CollectorRegistry()
        self.slots = Gauge("workernode_slots", "Requests this node works on at once.", registry=self.registry)
        self.slots.set(slots)
        self.busy = Gauge("workernode_slots_busy", "Slots that are taken.", registry=self.registry)
        self.attempts = Counter(
            "workernode_attempts", "Attempts by what became of the delivery.", ["queue"], registry=self.registry
        )
        self.undecodable = Counter(
            "workernode_undecodable_messages", "Messages that could not be read.", ["topic"], registry=self.registry
        )

    def follow(self, pace: CredentialPace) -> None:
        """Show how fast the provider may be asked, as of each look."""
        limit = Gauge(
            "workernode_allowance_limit",
            "The provider's limit per minute, of all nodes of the credential; NaN where none is known.",
            ["kind"],
            registry=self.registry,
        )
        remaining = Gauge(
            "workernode_allowance_remaining",
            "How much of it this node may use at once; NaN where no limit is known.",
            ["kind"],
            registry=self.registry,
        )
        for kind in KINDS:
            limit.labels(kind=kind).set_function(partial(_limit, pace, kind))
            remaining.labels(kind=kind).set_function(partial(_remaining, pace, kind))
        shown: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("nodes", "Nodes that share the credential.", lambda: pace.nodes),
            ("paced", "1 while nobody may pass because of the provider's limits.", lambda: pace.wait_s() > 0),
            ("limited_seconds", "For how long the provider wants to be left alone.", pace.limited_s),
        )
        for name, text, value in shown:
            Gauge(f"workernode_allowance_{name}", text, registry=self.registry).set_function(value)


def _limit(pace: CredentialPace, kind: Kind) -> float:
    limit = pace.rate(kind).limit(pace.now)
    return math.nan if limit is None else limit


def _remaining(pace: CredentialPace, kind: Kind) -> float:
    available = pace.rate(kind).available(pace.now)
    return math.nan if available is None else available
