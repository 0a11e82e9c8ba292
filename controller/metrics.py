"""What Prometheus is told of the controller."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ControllerMetrics:
    """In a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leads = Gauge("workernode_controller_leads", "1 while this controller leads.", registry=self.registry)
        self.queued = Gauge("workernode_controller_queued", "AIModels to be looked at.", registry=self.registry)
        self.looks = Counter(
            "workernode_controller_looks", "Looks at an AIModel, by how they went.", ["result"], registry=self.registry
        )
        self.look_seconds = Histogram("workernode_controller_look_seconds", "Time of one look.", registry=self.registry)
