"""What a gateway counts, for Prometheus."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import Counter, Gauge, Histogram

from process.metrics import WAIT_SECONDS, at_zero, registry, tokens
from wire.errors import CODES, STATUSES

OUTCOMES = ("answered", "failed", "cancelled", "expired", "poison")
"""How a request ends for its client: :data:`gateway.requests.decisions.State` but for ``open``."""
OTHER = "other"
"""The code of an error that is not ours: a provider's own."""


class GatewayMetrics:
    """One per process. Labels never hold what a client or provider can choose freely."""

    def __init__(self) -> None:
        self.registry = registry()
        self.requests = at_zero(
            Counter(
                "gateway_requests",
                "Accepted requests by how they ended for the client.",
                ["outcome"],
                registry=self.registry,
            ),
            OUTCOMES,
        )
        self.refused = at_zero(
            Counter(
                "gateway_refused_requests",
                "Requests that were refused before they were accepted.",
                ["status"],
                registry=self.registry,
            ),
            map(str, sorted(STATUSES)),
        )
        self.errors = at_zero(
            Counter(
                "gateway_errors",
                "Errors that clients got, before or after their requests were accepted.",
                ["code"],
                registry=self.registry,
            ),
            (*sorted(CODES), OTHER),
        )
        self._refusals: Counts[str] = Counts()
        self.tokens = tokens("gateway_tokens", "Tokens that clients are charged for.", self.registry)
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
        self.held = Gauge(
            "gateway_requests_held", "Requests that wait for a broker that is away.", registry=self.registry
        )
        self.nodes = Gauge("gateway_nodes", "Nodes that are present.", registry=self.registry)
        self.queue = self._seconds("gateway_queue_seconds", "From accepting a request to its begin at a node.")
        self.first_token = self._seconds(
            "gateway_first_token_seconds", "From accepting a request for a stream to the first part of its answer."
        )
        self.seconds = self._seconds("gateway_request_seconds", "From accepting a request to its end.")
        self.settle = self._seconds(
            "gateway_settle_seconds", "From accepting an end to the node's word that its charge is stored."
        )
        self.undecodable = at_zero(
            Counter(
                "gateway_undecodable_messages", "Messages that could not be read.", ["topic"], registry=self.registry
            ),
            ("link", "presence", "backlog", "orders"),
        )

    def refuse(self, http_status: int, code: str) -> None:
        """Count a request that was refused before it was accepted."""
        self.refused[str(http_status)].inc()
        self._refusals[str(http_status)] += 1
        self.error(code)

    def error(self, code: str) -> None:
        """Count an error that a client gets."""
        self.errors[code if code in CODES else OTHER].inc()

    def take_refusals(self) -> dict[str, int]:
        """Refusals by status since this was last called."""
        taken, self._refusals = dict(self._refusals), Counts()
        return taken

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=WAIT_SECONDS, registry=self.registry)
