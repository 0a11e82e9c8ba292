"""Which models there are, how many nodes serve them, and in what state: from presence and declaration. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.models.capacity import Capacity, ModelNodes
from wire.errors import InvalidName, ModelNotFound, ModelUnavailable, UnsupportedEndpoint
from wire.presence import IRREVERSIBLE, PRESENCE_LOST_S
from wire.topics import segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wire.presence import Presence
    from wire.request import Endpoint

KNOWN_FOR_S = 600.0
"""A model stays known this long after its last node was heard of: its requests wait for a node to come."""
NODES_MAX = 20_000
MODELS_MAX = 10_000
"""Beside those of the settings. A flood of forged heartbeats makes no more of either known: a gateway keeps the last
heartbeat of each node, and a topic open for each model."""
NONE = Capacity()
"""What a model without nodes can do."""


@dataclass
class _Seen:
    presence: Presence
    at: float


@dataclass
class _Known:
    """A model: declared, or seen by presence."""

    declared: bool
    since_s: int
    seen_at: float
    nodes: ModelNodes = field(default_factory=ModelNodes)
    taken_back: bool = False
    """It was declared, and is no more: it goes with its last node."""

    @property
    def is_over(self) -> bool:
        """Whether it was taken back and nobody takes its requests any more: none is to wait for a node of it."""
        return self.taken_back and all(node.state == "draining" for node in self.nodes.presences)


@dataclass(frozen=True)
class ModelView:
    """What clients are told about a model."""

    name: str
    created_s: int
    nodes: int
    ready: int
    slots: int
    busy: int
    service_ms: float | None
    """How long a request holds a slot, on average; None: nobody has measured it."""
    state: str
    """``ready``, ``waiting`` (no node at present) or the state of its nodes."""
    sentence: str | None
    context_length: int | None
    endpoints: tuple[str, ...]
    """What its present nodes serve."""


class Models:
    """The register. Times are the loop's clock in seconds; ``created_s`` is Unix time."""

    def __init__(self, declared: Iterable[str], now: float, unix_s: int) -> None:
        self.is_complete = True
        """False while a declaration is still to be read: a model that is not known may be one all the same."""
        self._own = frozenset(declared)
        self._nodes: dict[str, _Seen] = {}
        self._known = {name: _Known(declared=True, since_s=unix_s, seen_at=now) for name in self._own}

    def __repr__(self) -> str:
        return f"<Models {sorted(self._known)} nodes={len(self._nodes)}>"

    def __contains__(self, model: object) -> bool:
        return model in self._known

    @property
    def names(self) -> list[str]:
        """Every known model."""
        return sorted(self._known)

    @property
    def node_count(self) -> int:
        """How many nodes are present."""
        return len(self._nodes)

    def declare(self, since_s: Mapping[str, int], now: float) -> list[str]:
        """These models, and no others, are declared beside those from the start; returns the ones that were not known.

        ``since_s``: since when, in Unix seconds.
        """
        self.is_complete = True
        for name, known in self._known.items():
            if known.declared and name not in self._own and name not in since_s:
                known.declared, known.taken_back = False, True
        news = [name for name in since_s if name not in self._known]
        for name, since in since_s.items():
            known = self._known.setdefault(name, _Known(declared=True, since_s=since, seen_at=now))
            known.declared, known.taken_back = True, False
            if name not in self._own:
                known.since_s = since
        return news

    def heard(self, presence: Presence, now: float, unix_s: int) -> bool:
        """Take a heartbeat; returns whether it made a model known. Raises :class:`wire.errors.InvalidName`."""
        segment(presence.model)
        before = self._nodes.get(presence.node)
        if before is not None and before.presence.sent_ms > presence.sent_ms:
            return False
        if before is not None and (before.presence.model != presence.model or presence.state == "stopped"):
            self._drop(before.presence)
        known = self._known.get(presence.model)
        news = known is None
        if presence.node not in self._nodes and len(self._nodes) >= NODES_MAX:
            return False
        if known is None:
            if len(self._known) >= len(self._own) + MODELS_MAX:
                return False
            known = self._known[presence.model] = _Known(declared=False, since_s=unix_s, seen_at=now)
        known.seen_at = now
        if presence.state != "stopped":
            self._nodes[presence.node] = _Seen(presence, now)
            known.nodes.put(presence)
        return news

    def heard_at(self, node: str) -> float:
        """When the latest heartbeat of this incarnation came; minus infinity if it is not present."""
        seen = self._nodes.get(node)
        return seen.at if seen is not None else float("-inf")

    def has_node(self, node: str) -> bool:
        """Whether a node of this fleet has that incarnation."""
        return node in self._nodes

    def forget_the_silent(self, now: float, *, deaf_s: float = 0.0) -> list[str]:
        """Drop nodes without a heartbeat and models without a node for too long; returns the models.

        ``deaf_s``: for so long since the last time no heartbeat could come, which says nothing of a model.
        """
        for known in self._known.values():
            known.seen_at += deaf_s
        for seen in list(self._nodes.values()):
            if now - seen.at > PRESENCE_LOST_S:
                self._drop(seen.presence)
        gone = [
            name
            for name, known in self._known.items()
            if not known.declared and not known.nodes and (known.taken_back or now - known.seen_at > KNOWN_FOR_S)
        ]
        for name in gone:
            del self._known[name]
        return gone

    def admit(self, model: str, endpoint: Endpoint, now_ms: int) -> None:
        """Return if requests for this endpoint of this model may wait for a node.

        Raises :class:`wire.errors.ModelNotFound`; :class:`wire.errors.UnsupportedEndpoint` where nodes are present
        and none of them serves it; or :class:`wire.errors.ModelUnavailable` with a node's own sentence where every
        node that does is in a state that lasts until someone acts. A node that is about to try again counts as well.
        """
        known = self._known.get(model)
        if known is None or known.is_over:
            try:
                segment(model)
            except InvalidName:
                raise ModelNotFound(
                    "There is no such model here. GET /v1/models lists the ones there are.", param="model"
                ) from None
            if not self.is_complete:
                raise ModelUnavailable("Which models there are cannot be read at the moment.", retry_after_ms=1000)
            raise ModelNotFound(
                f"The model {model!r} does not exist here. GET /v1/models lists the ones there are.", param="model"
            )
        nodes = known.nodes
        if nodes.in_order(endpoint) or not nodes:
            return
        if not nodes.serves(endpoint):
            raise UnsupportedEndpoint(
                f"The model {model!r} does not serve {endpoint} here. "
                f"It serves {', '.join(nodes.endpoints) or 'nothing'}.",
                param="model",
            )
        serving = [node for node in nodes.presences if endpoint in node.endpoints]
        if all(_out_of_order(node, now_ms) for node in serving):
            sentence = next((node.sentence for node in serving if node.sentence), None)
            again_ms = min((node.until_ms - now_ms for node in serving if node.until_ms is not None), default=None)
            raise ModelUnavailable(sentence, retry_after_ms=again_ms)

    def capacity(self, model: str) -> Capacity:
        """What the present nodes of a model can do."""
        known = self._known.get(model)
        return NONE if known is None else known.nodes.capacity

    def continues(self, model: str) -> bool:
        """Whether some node of the model can go on after a text that it is given."""
        known = self._known.get(model)
        return known is not None and known.nodes.continues

    def counting(self, model: str) -> list[str]:
        """The nodes of the model that may be asked how many tokens a text has."""
        known = self._known.get(model)
        nodes = known.nodes.presences if known is not None else []
        return [node.node for node in nodes if node.counts and node.state != "draining"]

    def view(self, model: str) -> ModelView:
        """One model. Raises :class:`wire.errors.ModelNotFound`."""
        known = self._known.get(model)
        if known is None:
            raise ModelNotFound(param="model")
        nodes = known.nodes.presences
        ready = [node for node in nodes if node.state == "ready"]
        worst = next((node for node in nodes if node.state != "ready"), None)
        return ModelView(
            name=model,
            created_s=known.since_s,
            nodes=len(nodes),
            ready=len(ready),
            slots=sum(node.slots for node in ready),
            busy=sum(node.busy for node in ready),
            service_ms=known.nodes.capacity.service_ms,
            state="ready" if ready else worst.state if worst else "waiting",
            sentence=None if ready or worst is None else worst.sentence,
            context_length=min((node.context_length for node in nodes if node.context_length), default=None),
            endpoints=tuple(known.nodes.endpoints),
        )

    def views(self) -> list[ModelView]:
        """Every known model, by name."""
        return [self.view(name) for name in self.names]

    def _drop(self, presence: Presence) -> None:
        del self._nodes[presence.node]
        if (known := self._known.get(presence.model)) is not None:
            known.nodes.drop(presence.node)


def _out_of_order(node: Presence, now_ms: int) -> bool:
    return node.state in IRREVERSIBLE and (node.until_ms is None or now_ms < node.until_ms)
