"""What a node counts, for Prometheus."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, get_args

from prometheus_client import Counter, Gauge, Histogram

from process import __version__
from process.identity import now_ms
from process.metrics import WAIT_SECONDS, at_zero, count_tokens, registry, tokens
from wire.presence import NodeState
from workernode.outcome import Answered, Cancelled, Outcome
from workernode.remote.stated import KINDS
from workernode.settling import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.attempt import Attempt
    from workernode.identity import NodeIdentity
    from workernode.remote.pace import CredentialPace
    from workernode.remote.stated import Kind


OUTCOMES = tuple(each.__name__.lower() for each in get_args(Outcome))


class NodeMetrics:
    """One per process; the registry is handed to the health server."""

    def __init__(self, slots: int) -> None:
        self.registry = registry()
        self.slots = Gauge("workernode_slots", "Requests this node works on at once.", registry=self.registry)
        self.slots.set(slots)
        self.busy = Gauge("workernode_slots_busy", "Slots that are taken.", registry=self.registry)
        self._attempts = at_zero(
            Counter(
                "workernode_attempts", "Attempts by what became of the delivery.", ["queue"], registry=self.registry
            ),
            get_args(Queue),
        )
        self._outcomes = at_zero(
            Counter("workernode_outcomes", "Attempts by how they ended.", ["outcome"], registry=self.registry),
            OUTCOMES,
        )
        self._tokens = tokens(
            "workernode_tokens", "Tokens of attempts that were answered, or cut short by a client.", self.registry
        )
        self._queue = self._seconds(
            "workernode_queue_seconds", "From a request's publication to its taking, by the clocks of gateway and node."
        )
        self._first_token = self._seconds(
            "workernode_first_token_seconds", "From taking a request to the first part of its answer."
        )
        self._attempt = self._seconds(
            "workernode_attempt_seconds", "From taking a request to its acknowledgement, or to handing it back."
        )
        self.resent = Counter(
            "workernode_link_resent_frames",
            "Frames that were sent to a gateway once more: it had not acknowledged them.",
            registry=self.registry,
        )
        self.dead_letters = Counter(
            "workernode_dead_letters", "Requests that this node put to the dead letters.", registry=self.registry
        )
        self.undecodable = at_zero(
            Counter(
                "workernode_undecodable_messages", "Messages that could not be read.", ["topic"], registry=self.registry
            ),
            ("requests", "control"),
        )

    def describe(self, identity: NodeIdentity) -> None:
        """Say which node this is, for others of its figures to be told by."""
        labels = {"model": identity.model, "type": identity.type, "name": identity.name, "version": __version__}
        Gauge("workernode_info", "Always 1: which node this is.", list(labels), registry=self.registry).labels(
            **labels
        ).set(1)

    def watch(self, load: Callable[[], tuple[int, int]], state: Callable[[], NodeState]) -> None:
        """Show its parked deliveries and its state, as of each look."""
        parked = Gauge("workernode_parked", "Deliveries that are kept without a slot.", registry=self.registry)
        parked.set_function(lambda: load()[1])
        states = Gauge("workernode_state", "1 for the state of this node.", ["state"], registry=self.registry)
        for each in get_args(NodeState):
            states.labels(each).set_function(partial(_is, each, state))

    def settled(self, attempt: Attempt, queue: Queue) -> None:
        """Count an attempt that has come to its end."""
        self._attempts[queue].inc()
        self._queue.observe(max(0, attempt.taken_ms - attempt.published_ms) / 1000)
        self._attempt.observe(max(0, now_ms() - attempt.taken_ms) / 1000)
        if attempt.first_token_ms is not None:
            self._first_token.observe(max(0, attempt.first_token_ms - attempt.taken_ms) / 1000)
        outcome = attempt.outcome
        if outcome is not None:
            self._outcomes[type(outcome).__name__.lower()].inc()
        if isinstance(outcome, Answered | Cancelled):
            count_tokens(self._tokens, outcome.usage)

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=WAIT_SECONDS, registry=self.registry)

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


def _is(wanted: NodeState, state: Callable[[], NodeState]) -> bool:
    return state() == wanted


def _limit(pace: CredentialPace, kind: Kind) -> float:
    limit = pace.rate(kind).limit(pace.now)
    return math.nan if limit is None else limit


def _remaining(pace: CredentialPace, kind: Kind) -> float:
    available = pace.rate(kind).available(pace.now)
    return math.nan if available is None else available
