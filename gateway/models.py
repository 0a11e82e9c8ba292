"""Which models there are, how many nodes serve them, and in what state: from presence and declaration. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.errors import InvalidName, ModelNotFound, ModelUnavailable, UnsupportedEndpoint
from wire.presence import IRREVERSIBLE, PRESENCE_LOST_S
from wire.topics import segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wire.presence import Presence
    from wire.request import Endpoint

KNOWN_FOR_S = 600.0
"""A model stays known this long after its last node was heard of: its requests wait for a node to come."""


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


@dataclass(frozen=True)
class ModelView:
    """What clients are told about a model."""

    name: str
    created_s: int
    nodes: int
    ready: int
    slots: int
    busy: int
    state: str
    """``ready``, ``waiting`` (no node at present) or the state of its nodes."""
    sentence: str | None
    context_length: int | None
    endpoints: tuple[str, ...]
    """What its present nodes serve."""


class Models:
    """The register. Times are the loop's clock in seconds; ``created_s`` is Unix time."""

    def __init__(self, declared: Iterable[str], now: float, unix_s: int) -> None:
        self._nodes: dict[str, _Seen] = {}
        self._known = {name: _Known(declared=True, since_s=unix_s, seen_at=now) for name in declared}

    def __repr__(self) -> str:
        return f"<Models {sorted(self._known)} nodes={len(self._nodes)}>"

    @property
    def names(self) -> list[str]:
        """Every known model."""
        return sorted(self._known)

    @property
    def node_count(self) -> int:
        """How many nodes are present."""
        return len(self._nodes)

    def heard(self, presence: Presence, now: float, unix_s: int) -> bool:
        """Take a heartbeat; returns whether it made a model known. Raises :class:`wire.errors.InvalidName`."""
        segment(presence.model)
        before = self._nodes.get(presence.node)
        if before is not None and before.presence.sent_ms > presence.sent_ms:
            return False
        if presence.state == "stopped":
            self._nodes.pop(presence.node, None)
        else:
            self._nodes[presence.node] = _Seen(presence, now)
        known = self._known.get(presence.model)
        if known is not None:
            known.seen_at = now
            return False
        self._known[presence.model] = _Known(declared=False, since_s=unix_s, seen_at=now)
        return True

    def heard_at(self, node: str) -> float:
        """When the latest heartbeat of this incarnation came; minus infinity if it is not present."""
        seen = self._nodes.get(node)
        return seen.at if seen is not None else float("-inf")

    def forget_the_silent(self, now: float) -> list[str]:
        """Drop nodes without a heartbeat and models without a node for too long; returns the models."""
        for node, seen in list(self._nodes.items()):
            if now - seen.at > PRESENCE_LOST_S:
                del self._nodes[node]
        gone = [
            name
            for name, known in self._known.items()
            if not known.declared and now - known.seen_at > KNOWN_FOR_S and not self._of(name)
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
        if model not in self._known:
            try:
                segment(model)
            except InvalidName:
                raise ModelNotFound(
                    "There is no such model here. GET /v1/models lists the ones there are.", param="model"
                ) from None
            raise ModelNotFound(
                f"The model {model!r} does not exist here. GET /v1/models lists the ones there are.", param="model"
            )
        present = self._of(model)
        nodes = [node for node in present if endpoint in node.endpoints]
        if present and not nodes:
            served = sorted({name for node in present for name in node.endpoints})
            raise UnsupportedEndpoint(
                f"The model {model!r} does not serve {endpoint} here. It serves {', '.join(served) or 'nothing'}.",
                param="model",
            )
        if nodes and all(_out_of_order(node, now_ms) for node in nodes):
            sentence = next((node.sentence for node in nodes if node.sentence), None)
            again_ms = min((node.until_ms - now_ms for node in nodes if node.until_ms is not None), default=None)
            raise ModelUnavailable(sentence, retry_after_ms=again_ms)

    def continues(self, model: str) -> bool:
        """Whether some node of the model can go on after a text that it is given."""
        return any(node.continues for node in self._of(model))

    def view(self, model: str) -> ModelView:
        """One model. Raises :class:`wire.errors.ModelNotFound`."""
        known = self._known.get(model)
        if known is None:
            raise ModelNotFound(param="model")
        nodes = self._of(model)
        ready = [node for node in nodes if node.state == "ready"]
        worst = next((node for node in nodes if node.state != "ready"), None)
        return ModelView(
            name=model,
            created_s=known.since_s,
            nodes=len(nodes),
            ready=len(ready),
            slots=sum(node.slots for node in ready),
            busy=sum(node.busy for node in ready),
            state="ready" if ready else worst.state if worst else "waiting",
            sentence=None if ready or worst is None else worst.sentence,
            context_length=min((node.context_length for node in nodes if node.context_length), default=None),
            endpoints=tuple(sorted({name for node in nodes for name in node.endpoints})),
        )

    def views(self) -> list[ModelView]:
        """Every known model, by name."""
        return [self.view(name) for name in self.names]

    def _of(self, model: str) -> list[Presence]:
        return [seen.presence for seen in self._nodes.values() if seen.presence.model == model]


def _out_of_order(node: Presence, now_ms: int) -> bool:
    return node.state in IRREVERSIBLE and (node.until_ms is None or now_ms < node.until_ms)
