"""What a gateway counts, for Prometheus."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class GatewayMetrics:
    """One per process. Labels never hold what a client or provider can choose freely."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gateway_requests",
            "Accepted requests by how they ended for the client.",
            ["outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "gateway_refused_requests",
            "Requests that were refused before they were accepted.",
            ["status"],
            registry=self.registry,
        )
        self._refusals: Counts[str] = Counts()
        self.open = Gauge("gateway_requests_open", "Requests whose client waits.", registry=self.registry)
        self.owned = Gauge("gateway_requests_owned", "Requests that are not settled yet.", registry=self.registry)
        self.unsettled = Gauge(
            "gateway_requests_unsettled",
            "Answered or cancelled requests whose charge is not certain yet.",
            registry=self.registry,
        )
        self.waiting = Gauge("gateway_requests_waiting", "Requests that no node has begun.", registry=self.registry)
        self.waiting_elsewhere = Gauge(
            "gateway_requests_waiting_elsewhere",
            "Requests that no node has begun of other gateways, as they say.",
            registry=self.registry,
        )
        self.nodes = Gauge("gateway_nodes", "Nodes that are present.", registry=self.registry)
        self.first_byte = Histogram(
            "gateway_first_byte_seconds",
            "From accepting a request to the first part of its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.seconds = Histogram(
            "gateway_request_seconds", "From accepting a request to its end.", buckets=_SECONDS, registry=self.registry
        )
        self.undecodable = Counter(
            "gateway_undecodable_messages", "Messages that could not be read.", ["topic"], registry=self.registry
        )

    def refuse(self, http_status: int) -> None:
        """Count a request that was refused before it was accepted."""
        self.refused.labels(status=str(http_status)).inc()
        self._refusals[str(http_status)] += 1

    def take_refusals(self) -> dict[str, int]:
        """Refusals by status since this was last called."""
        taken, self._refusals = dict(self._refusals), Counts()
        return taken
