"""What people are told of an AIModel: four conditions with sentences, made from what was observed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.aimodel import AIModel, Spec
    from controller.observed import NodeEntry, Observed

SENTENCES_MAX = 5
"""Nodes of which a condition tells."""

_SCALER_REASONS = {"failing": "KEDANotReady", "paused": "KEDAPaused", "unknown": "WaitingForKEDA"}

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Condition:
    """``reason`` is a word for programs, ``message`` the sentence for people."""

    type: str
    status: Truth
    reason: str
    message: str

    @property
    def is_wrong(self) -> bool:
        """Whether somebody should look. What is only waited for is no trouble yet; what is in its way is."""
        return (self.type, self.status) == ("Degraded", "True") or self.reason == "DeletingTopics"


def conditions(model: AIModel, seen: Observed) -> list[Condition]:
    """All four, in the order in which they are asked for."""
    return [_ready(model, seen), _topics(model, seen), _scaling(model, seen), _degraded(model, seen)]


def removal_condition(message: str, *, reason: str) -> Condition:
    """The Ready of an AIModel that is being deleted."""
    return Condition("Ready", "False", reason, message)


def unreadable_conditions(wrong: str) -> list[Condition]:
    """Of an AIModel that this controller cannot read: a definition of another version let it in, or none could tell."""
    return [Condition("Ready", "False", "Unreadable", wrong), Condition("Degraded", "True", "Unreadable", wrong)]


def with_times(
    found: Iterable[Condition], before: Iterable[dict[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """As the status has them: the time of the last change of a condition's truth is kept."""
    known = {each["type"]: each for each in before}
    shown = []
    for each in found:
        past = known.get(each.type, {})
        since = past.get("lastTransitionTime") if past.get("status") == each.status else None
        shown.append(
            {
                "type": each.type,
                "status": each.status,
                "reason": each.reason,
                "message": each.message,
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
            }
        )
    return shown


def _ready(model: AIModel, seen: Observed) -> Condition:
    def not_ready(reason: str, message: str) -> Condition:
        return Condition("Ready", "False", reason, message)

    if not seen.topics.made:
        return not_ready("WaitingForTopics", f"Waiting for the model's topics: {seen.topics.why}")
    if seen.failure:
        return not_ready("NotApplied", f"The API server refuses an object of this model: {seen.failure}")
    if not seen.deployment:
        return not_ready("WaitingForNodes", "Waiting for the Deployment.")
    if seen.desired == 0:
        if not seen.keda:
            return not_ready("ScaledToZero", "No node runs, and none will by itself: spec.replicas is 0.")
        if seen.scaler.state == "active":
            return Condition("Ready", "True", "ScaledToZero", "No node runs; the first request has one started.")
        reason = _SCALER_REASONS[seen.scaler.state]
        return not_ready(reason, f"No node runs, and none will be started. KEDA says: {seen.scaler.says}")
    worst = seen.held_back
    if seen.ready == 0 and (worst is None or worst.state != "Misconfigured"):  # such a node may never be ready
        return not_ready("WaitingForNodes", _waiting(seen))
    if worst is not None:
        return not_ready(worst.state, f"No node works now. {worst.name}: {_told(worst)}")
    if seen.all_paused:
        return not_ready("Paused", f"No node works now: {_nodes(len(seen.paused))} paused by an operator.")
    return Condition("Ready", "True", "Serving", f"{_nodes(seen.ready)} of {seen.desired} ready.")


def _waiting(seen: Observed) -> str:
    if seen.hindrances:
        return f"Waiting for {_nodes(seen.desired)}. {seen.hindrances[0]}"
    loading = next((node for node in seen.nodes if node.message), None)
    if loading is not None:
        return f"Waiting for {_nodes(seen.desired)}. {loading.name}: {loading.message}"
    if seen.rollout_failures:
        return f"Waiting for {_nodes(seen.desired)}. The Deployment says: {seen.rollout_failures[0]}"
    return f"Waiting for {_nodes(seen.desired)} to be ready; `kubectl describe pod` tells why one does not start."


def _topics(model: AIModel, seen: Observed) -> Condition:
    if not seen.topics.made:
        return Condition("TopicReady", "False", "NotMade", f"The topics are not made yet: {seen.topics.why}")
    if seen.topics.why:
        return Condition("TopicReady", "Unknown", "BrokerAway", f"The topics were made. Now: {seen.topics.why}")
    return Condition(
        "TopicReady", "True", "Made", f"The topics of {model.spec.model!r} and their subscriptions are there."
    )


def _scaling(model: AIModel, seen: Observed) -> Condition:
    spec = model.spec
    if not seen.topics.made:
        return Condition("ScalingActive", "False", "WaitingForTopics", "There is no queue to scale by yet.")
    if not seen.keda:
        return Condition(
            "ScalingActive",
            "False",
            "NoKEDA",
            f"KEDA is not installed, so there {'is' if spec.fixed_replicas == 1 else 'are'} always "
            f"{_nodes(spec.fixed_replicas)}{_clamped(spec)}. "
            f"Change that by `kubectl scale aimodel/{model.name} --replicas=N` "
            f"({spec.min_replicas} to {spec.max_replicas}), or install KEDA.",
        )
    if (worst := seen.held_back) is not None:
        return Condition(
            "ScalingActive",
            "False",
            worst.state,
            f"More nodes would share the trouble of those that are there: there are no more than "
            f"{_nodes(max(1, spec.min_replicas, seen.desired))} until one works again.",
        )
    if seen.scaler.state != "active":
        truth: Truth = "Unknown" if seen.scaler.state == "unknown" else "False"
        return Condition("ScalingActive", truth, _SCALER_REASONS[seen.scaler.state], f"KEDA says: {seen.scaler.says}")
    sentence = f"KEDA keeps {spec.min_replicas} to {_nodes(spec.max_replicas)}, by the length of the queue."
    if spec.replicas is not None:
        sentence += " spec.replicas does not count beside KEDA."
    return Condition("ScalingActive", "True", "ByQueue", sentence)


def _degraded(model: AIModel, seen: Observed) -> Condition:
    sentences = [f"{node.name}: {_told(node)}" for node in seen.troubled]
    if seen.failure:
        return Condition("Degraded", "True", "NotApplied", f"The API server refuses an object: {seen.failure}")
    if seen.troubled:
        return Condition("Degraded", "True", seen.troubled[0].state, " ".join(sentences[:SENTENCES_MAX]))
    if seen.hindrances:
        return Condition("Degraded", "True", "NodesNotStarted", " ".join(seen.hindrances[:SENTENCES_MAX]))
    if seen.rollout_failures:
        return Condition("Degraded", "True", "RolloutFailed", seen.rollout_failures[0])
    if seen.rollout_paused:
        resume = f"kubectl -n {model.namespace} rollout resume deployment/{model.object_name}"
        sentence = f"The Deployment is paused, so that no change reaches the nodes: `{resume}`."
        return Condition("Degraded", "True", "RolloutPaused", sentence)
    if seen.topics.why:
        return Condition("Degraded", "True", "BrokerAway", seen.topics.why)
    if seen.scaler.state == "failing":
        return Condition("Degraded", "True", _SCALER_REASONS["failing"], f"KEDA says: {seen.scaler.says}")
    return Condition("Degraded", "False", "Well", "Nothing is wrong.")


def _told(node: NodeEntry) -> str:
    told = node.message or f"it is {node.state}."
    return f"{told} Until {node.until}." if node.until else told


def _clamped(spec: Spec) -> str:
    outside = spec.replicas is not None and spec.replicas != spec.fixed_replicas
    return f", though spec.replicas says {spec.replicas}" if outside else ""


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"
