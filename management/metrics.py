"""What Prometheus is told."""

from __future__ import annotations

import time
from collections import Counter as Counts
from functools import partial
from typing import TYPE_CHECKING, get_args

from prometheus_client import Counter, Gauge, Histogram

from management.guesses import Result
from management.ledger.facts import KINDS, OTHER, Reason
from process.identity import now_ms
from process.metrics import at_zero
from wire.presence import IRREVERSIBLE, NodeState

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from management.ledger.journal import Written

_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
LAG_SHOWN_S = 60.0
"""So long after a batch the ledger counts as late as that was. Where more waits, it comes sooner."""


class Metrics:
    """Management's metrics, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._events = at_zero(
            Counter("ledger_events", "New events stored, by type.", ["type"], registry=registry),
            sorted({*KINDS, OTHER}),
        )
        self._stored: Counts[str] = Counts()
        self._duplicates = Counter("ledger_duplicates", "Events that were stored before.", registry=registry)
        self._conflicting = Counter(
            "ledger_conflicting", "Duplicates with another content than the first, which counts.", registry=registry
        )
        self._quarantined = at_zero(
            Counter("ledger_quarantined", "Messages that are no events, by reason.", ["reason"], registry=registry),
            get_args(Reason),
        )
        self._batch_events = Histogram(
            "ledger_batch_events", "Messages per transaction.", buckets=_BATCH_EVENTS, registry=registry
        )
        self.commit_seconds = Histogram(
            "ledger_commit_seconds", "Time of one transaction.", buckets=_COMMIT_SECONDS, registry=registry
        )
        self._crossings = at_zero(
            Counter("ledger_budget_crossings", "Budgets that came to a state.", ["state"], registry=registry),
            ("warning", "exhausted"),
        )
        self._in_hand_ms: int | None = None
        self._last_lag = 0.0, float("-inf")
        Gauge(
            "ledger_lag_seconds",
            "Age of the youngest event of the batch in hand, or of one stored in the last minute when it was stored.",
            registry=registry,
        ).set_function(self._lag)
        self.undecodable = at_zero(
            Counter(
                "management_undecodable_messages", "Messages that could not be read.", ["topic"], registry=registry
            ),
            ("presence", "backlog"),
        )
        self.alerts_open = at_zero(
            Gauge("management_alerts_open", "Troubles that last until someone acts.", ["code"], registry=registry),
            sorted(IRREVERSIBLE),
        )
        self.alerts_told = at_zero(
            Counter("management_alerts_told", "Alerts by how the webhook took them.", ["result"], registry=registry),
            ("yes", "failed", "nobody"),
        )
        self.wrong_keys = at_zero(
            Counter(
                "management_wrong_keys",
                "Keys of management that were wrong, or were refused unseen after too many of them.",
                ["result"],
                registry=registry,
            ),
            get_args(Result),
        )

    def stored(self) -> dict[str, int]:
        """New events since this process started, by type."""
        return dict(self._stored)

    def follow(self, count: Callable[[NodeState], int]) -> None:
        """Show how many nodes are in which state, as of each look."""
        shown = Gauge("management_nodes", "Nodes whose heartbeats are heard.", ["state"], registry=self.registry)
        for state in get_args(NodeState):
            shown.labels(state).set_function(partial(count, state))

    def batch_taken(self, latest_ms: int | None) -> None:
        """A batch is in hand, whose youngest event is of this time; None where it has none."""
        self._in_hand_ms = latest_ms

    def batch_written(self, messages: int, written: Written) -> None:
        """Count a batch that was committed."""
        self._batch_events.observe(messages)
        for kind, count in written.stored.items():
            self._events[kind].inc(count)
            self._stored[kind] += count
        for reason, count in written.quarantined.items():
            self._quarantined[reason].inc(count)
        self._duplicates.inc(written.duplicates)
        self._conflicting.inc(written.conflicting)
        for crossing in written.crossings:
            self._crossings[crossing.state].inc()
        self._in_hand_ms = None
        if written.latest_ms is not None:
            self._last_lag = _age_s(written.latest_ms), time.monotonic()

    def _lag(self) -> float:
        # It grows while nothing can be stored, and no batch that was late is told of for ever.
        if self._in_hand_ms is not None:
            return _age_s(self._in_hand_ms)
        lag_s, stored_at = self._last_lag
        return lag_s if time.monotonic() - stored_at < LAG_SHOWN_S else 0.0


def _age_s(time_ms: int) -> float:
    return max(0.0, (now_ms() - time_ms) / 1000)
