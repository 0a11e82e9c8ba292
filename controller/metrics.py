"""What Prometheus is told of the controller."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from process.metrics import at_zero, registry


class ControllerMetrics:
    """In a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry()
        self.leads = Gauge("workernode_controller_leads", "1 while this controller leads.", registry=self.registry)
        self.queued = Gauge("workernode_controller_queued", "AIModels to be looked at.", registry=self.registry)
        self.looks = at_zero(
            Counter(
                "workernode_controller_looks",
                "Looks at an AIModel, by how they went.",
                ["result"],
                registry=self.registry,
            ),
            ("done", "failed"),
        )
        self.look_seconds = Histogram("workernode_controller_look_seconds", "Time of one look.", registry=self.registry)
