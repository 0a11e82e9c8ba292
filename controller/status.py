"""The controller's part of an AIModel's status. What a field manager does not say again, goes, so it says all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.aimodel import API_VERSION, KIND
from controller.conditions import with_times
from controller.kinds import AIMODEL
from controller.manifests.naming import MANAGER, selector
from controller.notices import tell_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.aimodel import AIModel
    from controller.cluster import Cluster
    from controller.conditions import Condition
    from controller.manifests import Manifest
    from controller.observed import Observed

Status = dict[str, Any]
FIGURES = ("replicas", "desiredNodes", "readyNodes", "selector", "waitingRequests")
"""What the controller tells besides conditions."""


def seen_status(model: AIModel, seen: Observed, found: Sequence[Condition], before: Status) -> Status:
    """All of it, by what was observed."""
    told: Status = {
        "observedGeneration": model.generation,
        "replicas": seen.replicas,
        "desiredNodes": seen.desired,
        "readyNodes": seen.ready,
        "selector": ",".join(f"{name}={value}" for name, value in selector(model).items()),
        "conditions": with_times(found, before.get("conditions") or [], model.generation, _now()),
    }
    backlog = before.get("waitingRequests") if seen.topics.backlog is None else seen.topics.backlog
    if backlog is not None:
        told["waitingRequests"] = backlog
    wrong = next((each.message for each in found if each.type == "Degraded" and each.status == "True"), None)
    if error := wrong or before.get("lastError"):
        told["lastError"] = error
    return told


def changed_status(model: AIModel, found: Sequence[Condition], before: Status, **values: Any) -> Status:
    """What it was, but for these conditions and values."""
    told = before.get("conditions") or []
    fresh = {each["type"]: each for each in with_times(found, told, model.generation, _now())}
    kept = [fresh.pop(each["type"], each) for each in told]
    same = {name: before[name] for name in (*FIGURES, "lastError") if name in before}
    return same | {"observedGeneration": model.generation, "conditions": [*kept, *fresh.values()]} | values


async def write(cluster: Cluster, model: AIModel, told: Status, found: Sequence[Condition], before: Status) -> None:
    """Where something is new. Raises :class:`controller.cluster.ClusterError`."""
    if all(before.get(name) == value for name, value in told.items()):
        return
    await cluster.apply(AIMODEL, head_of(model) | {"status": told}, manager=MANAGER, subresource="status")
    await tell_changes(cluster, model, found, before.get("conditions") or [])


def head_of(model: AIModel) -> Manifest:
    """Of the AIModel itself."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": model.name, "namespace": model.namespace},
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
