"""What Prometheus is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector

from process.identity import now_ms
from wire.presence import IRREVERSIBLE

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from management.journal import Written

_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


class Metrics:
    """Management's metrics, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        self._events = Counter("ledger_events", "New events stored, by type.", ["type"], registry=registry)
        self._duplicates = Counter("ledger_duplicates", "Events that were stored before.", registry=registry)
        self._conflicting = Counter(
            "ledger_conflicting", "Duplicates with another content than the first, which counts.", registry=registry
        )
        self._quarantined = Counter(
            "ledger_quarantined", "Messages that are no events, by reason.", ["reason"], registry=registry
        )
        self._batch_events = Histogram(
            "ledger_batch_events", "Messages per transaction.", buckets=_BATCH_EVENTS, registry=registry
        )
        self.commit_seconds = Histogram(
            "ledger_commit_seconds", "Time of one transaction.", buckets=_COMMIT_SECONDS, registry=registry
        )
        self._crossings = Counter(
            "ledger_budget_crossings", "Budgets that came to a state.", ["state"], registry=registry
        )
        self._lag = Gauge(
            "ledger_lag_seconds", "Age of the youngest event of the last batch when it was stored.", registry=registry
        )
        self.nodes_present = Gauge("nodes_present", "Nodes whose heartbeats are heard.", registry=registry)
        self.heartbeats_undecodable = Counter(
            "heartbeats_undecodable", "Messages on the presence topic that are no heartbeats.", registry=registry
        )
        self.backlogs_undecodable = Counter(
            "backlogs_undecodable", "Messages on the backlog topic that are no reports.", registry=registry
        )
        self.alerts_open = Gauge("alerts_open", "Troubles that last until someone acts.", ["code"], registry=registry)
        self.alerts_told = Counter("alerts_told", "Alerts by how the webhook took them.", ["result"], registry=registry)
        for code in sorted(IRREVERSIBLE):
            self.alerts_open.labels(code)
        for result in ("yes", "failed", "nobody"):
            self.alerts_told.labels(result)

    def stored(self) -> dict[str, int]:
        """New events since this process started, by type."""
        samples = (sample for family in self._events.collect() for sample in family.samples)
        return {sample.labels["type"]: int(sample.value) for sample in samples if sample.name.endswith("_total")}

    def batch_written(self, messages: int, written: Written) -> None:
        """Count a batch that was committed."""
        self._batch_events.observe(messages)
        for kind, count in written.stored.items():
            self._events.labels(kind).inc(count)
        for reason, count in written.quarantined.items():
            self._quarantined.labels(reason).inc(count)
        self._duplicates.inc(written.duplicates)
        self._conflicting.inc(written.conflicting)
        for crossing in written.crossings:
            self._crossings.labels(crossing.state).inc()
        if written.latest_ms is not None:
            self._lag.set(max(0.0, (now_ms() - written.latest_ms) / 1000))
