"""What the controller found when it looked at one AIModel, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from controller.manifests import Manifest

TROUBLES = ("AuthenticationFailed", "QuotaExhausted", "Misconfigured", "RateLimited", "Unreachable")
"""States of nodes that do not work, the worst first."""

_BEGINNINGS = ("ContainerCreating", "PodInitializing")
"""What a container waits for before each start."""
_MOUNTED_WITHIN = timedelta(minutes=2)
"""A volume that takes longer may be one that will not come, as a Secret's that is not there."""
_RECENTLY = timedelta(minutes=15)
"""One that ended longer ago has come up since: what it is not ready for now is something else."""


@dataclass(frozen=True)
class NodeEntry:
    """One node's own entry in the status."""

    name: str
    state: str
    message: str = ""
    until: str = ""
    runs: bool = True
    """Whether its Pod's probe says ready. A node that was killed leaves an entry that nobody corrects."""

    @classmethod
    def of(cls, entry: dict[str, Any], *, runs: bool = True) -> NodeEntry:
        """The entry as it stands in the status. Another definition of the resource may have let it lack anything."""
        name, state, message, until = (str(entry.get(part) or "") for part in ("name", "state", "message", "until"))
        return cls(name, state, message, until, runs)


def is_living(pod: Manifest) -> bool:
    """Whether a Pod runs, or will. One that was evicted stays for long as an object."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Manifest) -> bool:
    """Whether its probe says so."""
    return _condition(pod, "Ready").get("status") == "True"


def hindrance(pod: Manifest, now: datetime) -> str:
    """Why a Pod does not become ready, in Kubernetes' words; empty for one that is, leaves, or only takes its time."""
    if is_ready(pod) or not is_living(pod) or pod["metadata"].get("deletionTimestamp"):
        return ""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("message") or "it has no machine.")
    mounted = _condition(pod, "PodReadyToStartContainers")  # a kubelet's, which says nothing of why
    since = mounted.get("lastTransitionTime") if mounted.get("status") == "False" else None
    if since and now - datetime.fromisoformat(since) > _MOUNTED_WITHIN:
        return (
            f"its volumes or its network are not ready since {since}: is there each Secret, ConfigMap and volume that "
            "it needs? `kubectl describe pod` tells which it waits for."
        )
    told = pod.get("status") or {}
    before = [each for each in told.get("initContainerStatuses") or [] if "terminated" not in (each.get("state") or {})]
    for container in [*before, *(told.get("containerStatuses") or [])]:
        ended = (container.get("lastState") or {}).get("terminated") or {}
        ended_at = ended.get("finishedAt")  # none where the kubelet has missed it
        if ended_at and now - datetime.fromisoformat(ended_at) < _RECENTLY:
            return (
                f"its container ended with code {ended['exitCode']} ({ended.get('reason') or 'no reason is known'}), "
                f"and this is restart {container['restartCount']}; `kubectl logs --previous` has its last words."
            )
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, *_BEGINNINGS):
            return f"{waiting['reason']}: {waiting.get('message') or 'no more is known.'}"
    return ""


def ending(pod: Manifest, now: datetime) -> str:
    """Why a Pod was ended from outside a short while ago, as by an eviction, in Kubernetes' words; else empty."""
    told = pod.get("status") or {}
    times = [each.get("lastTransitionTime") for each in told.get("conditions") or []]
    at = max(filter(None, [*times, told.get("startTime")]), default=None)
    if told.get("phase") != "Failed" or at is None or now - datetime.fromisoformat(at) > _RECENTLY:
        return ""
    return f"{told.get('reason') or 'Failed'}: {told.get('message') or 'no more is known.'}"


@dataclass(frozen=True)
class Topics:
    """How the model's topics are. ``made``: they were there at some time. ``why``: what is wrong with them now."""

    made: bool
    why: str = ""
    backlog: int | None = None


@dataclass(frozen=True)
class Scaler:
    """How KEDA is with a model, and what it says of that. Without KEDA it is ``unknown``."""

    state: Literal["active", "paused", "failing", "unknown"]
    says: str = ""


@dataclass(frozen=True)
class Observed:
    """``nodes`` are those whose Pods are there. ``scaled_object`` is None without KEDA. All objects are the model's."""

    topics: Topics
    keda: bool
    deployment: Manifest = field(default_factory=dict)
    scaled_object: Manifest | None = None
    nodes: tuple[NodeEntry, ...] = ()
    failure: str = ""
    """Why the API server did not take an object, in its words."""
    stuck: tuple[str, ...] = ()
    """Which Pods do not become ready, and why."""
    ended: tuple[str, ...] = ()
    """Which Pods were ended from outside a short while ago, and why."""

    @property
    def hindrances(self) -> tuple[str, ...]:
        """What keeps nodes from being ready. What ended a node whose successor is ready counts no more."""
        return (*self.stuck, *self.ended) if self.ready < self.desired else self.stuck

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
    def paused(self) -> tuple[NodeEntry, ...]:
        """Nodes that somebody holds."""
        return tuple(node for node in self.nodes if node.state == "Paused")

    @property
    def held_back(self) -> NodeEntry | None:
        """The worst one, if no ready node works now: more nodes would share its trouble."""
        troubled = self.troubled
        return troubled[0] if troubled and self._nobody_works else None

    @property
    def all_paused(self) -> bool:
        """Whether no ready node works because somebody holds them."""
        return bool(self.paused) and not self.troubled and self._nobody_works

    @property
    def _nobody_works(self) -> bool:
        """By what nodes say; one that has not said anything yet may well work."""
        works = any(node.state == "Ready" and node.runs for node in self.nodes)
        return not works and len(self.troubled) + len(self.paused) >= self.ready

    @property
    def ceiling(self) -> int | None:
        """The number of nodes above which KEDA must not go now."""
        return None if self.held_back is None else self.desired

    @property
    def scaler(self) -> Scaler:
        """How KEDA is with the ScaledObject."""
        scaled = self.scaled_object or {}
        paused, ready = _condition(scaled, "Paused"), _condition(scaled, "Ready")
        if paused.get("status") == "True":
            return Scaler("paused", str(paused.get("message") or "it is paused."))
        match ready.get("status"):
            case "True":
                return Scaler("active")
            case "False":
                return Scaler("failing", str(ready.get("message") or "it is not ready."))
        return Scaler("unknown", str(ready.get("message") or "nothing yet. Does its operator run?"))

    @property
    def rollout_paused(self) -> bool:
        """Whether somebody holds the Deployment, so that nodes stay as they are whatever it says."""
        return bool((self.deployment.get("spec") or {}).get("paused"))

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


def _condition(found: Manifest, type_: str) -> dict[str, Any]:
    told = (found.get("status") or {}).get("conditions") or []
    return next((each for each in told if each["type"] == type_), {})
