"""What a node counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


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
