"""What the controller found when it looked at one AIModel, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.manifests import Manifest

TROUBLES = ("AuthenticationFailed", "QuotaExhausted", "Misconfigured", "RateLimited", "Unreachable")
"""States of nodes that do not work, the worst first."""


@dataclass(frozen=True)
class NodeEntry:
    """One node's own entry in the status."""

    name: str
    state: str
    message: str = ""
    until: str = ""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> NodeEntry:
        """The entry as it stands in the status."""
        return cls(entry["name"], entry["state"], entry.get("message") or "", entry.get("until") or "")


def is_living(pod: Manifest) -> bool:
    """Whether a Pod runs, or will. One that was evicted stays for long as an object."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Topics:
    """How the model's topics are. ``made``: they were there at some time. ``why``: what is wrong with them now."""

    made: bool
    why: str = ""
    backlog: int | None = None


@dataclass(frozen=True)
class Observed:
    """``nodes`` are those whose Pods are there. ``scaled_object`` is None without KEDA."""

    topics: Topics
    keda: bool
    deployment: Manifest = field(default_factory=dict)
    scaled_object: Manifest | None = None
    nodes: tuple[NodeEntry, ...] = ()
    failure: str = ""
    """Why the API server did not take an object, in its words."""

    @property
    def desired(self) -> int:
        """Nodes that the Deployment is to have."""
        return int((self.deployment.get("spec") or {}).get("replicas") or 0)

    @property
    def replicas(self) -> int:
        """Pods that there are."""
        return int(self._counted.get("replicas") or 0)

    @property
    def ready(self) -> int:
        """Pods whose probes say ready."""
        return int(self._counted.get("readyReplicas") or 0)

    @property
    def troubled(self) -> tuple[NodeEntry, ...]:
        """Nodes that do not work, the worst first."""
        found = [node for node in self.nodes if node.state in TROUBLES]
        return tuple(sorted(found, key=lambda node: TROUBLES.index(node.state)))

    @property
    def held_back(self) -> NodeEntry | None:
        """The worst one, if no ready node works now: more nodes would share its trouble."""
        troubled = self.troubled
        works = any(node.state in ("Ready", "Paused") for node in self.nodes)
        return troubled[0] if troubled and not works and len(troubled) >= self.ready else None

    @property
    def ceiling(self) -> int | None:
        """The number of nodes above which KEDA must not go now."""
        return None if self.held_back is None else self.desired

    @property
    def keda_trouble(self) -> str:
        """Why KEDA does not scale, in its words."""
        told = ((self.scaled_object or {}).get("status") or {}).get("conditions") or []
        return next(
            (str(each.get("message") or "it is not ready.") for each in told if _is_not_ready(each)),
            "",
        )

    @property
    def rollout_failures(self) -> list[str]:
        """What the Deployment says is wrong."""
        return [
            str(each.get("message") or each.get("reason") or "")
            for each in self._counted.get("conditions") or []
            if (each["type"] == "ReplicaFailure" and each["status"] == "True")
            or (each["type"] == "Progressing" and each["status"] == "False")
        ]

    @property
    def _counted(self) -> Manifest:
        return self.deployment.get("status") or {}


def _is_not_ready(condition: dict[str, Any]) -> bool:
    return bool(condition["type"] == "Ready" and condition["status"] == "False")
