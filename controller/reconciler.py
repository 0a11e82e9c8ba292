"""One look at one AIModel: what is there, what should be, what is told. The same whatever was the reason to look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.aimodel import API_VERSION, FINALIZER, KIND, WrongModel, read, unreadable
from controller.broker_admin import BrokerAdminError
from controller.cluster import ClusterError
from controller.conditions import Condition, conditions, unreadable_conditions, with_times
from controller.kinds import AIMODEL, BY_NAME, DEPLOYMENT, MANAGED, POD, POD_MONITOR, SCALED_OBJECT
from controller.manifests import Place, render
from controller.manifests.naming import MANAGED as MANAGED_LABELS
from controller.manifests.naming import MANAGER, selector
from controller.notices import tell_changes
from controller.observed import NodeEntry, Observed, Topics, is_living
from controller.removal import Removal
from controller.replicas import hand_over
from process.logging import Log

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.broker_admin import BrokerAdmin
    from controller.cluster import Cluster
    from controller.manifests import Manifest
    from controller.settings import ControllerSettings

log = Log("controller")

Key = tuple[str, str]
"""Namespace and name of an AIModel."""
_REFUSALS = (400, 403, 422)
"""What an object's content or the controller's permissions are the reason for; it is told, and tried again later."""


class Reconciler:
    """Raises :class:`controller.cluster.ClusterError` where a look has to be repeated."""

    def __init__(self, cluster: Cluster, admin: BrokerAdmin, settings: ControllerSettings) -> None:
        self._cluster = cluster
        self._admin = admin
        self._settings = settings
        self._removal = Removal(cluster, admin)

    async def look(self, key: Key) -> float | None:
        """Make it true and tell how it is. Returns after how many seconds to look again; None if it is gone."""
        resource = await self._cluster.get(AIMODEL, *key)
        if resource is None:
            return None
        wrong = ""
        try:
            model = read(resource)
        except WrongModel as error:
            model, wrong = unreadable(resource), str(error)
        if resource["metadata"].get("deletionTimestamp"):
            return await self._removal.look(model, resource, keda=await self._cluster.knows(SCALED_OBJECT))
        if wrong:
            log.error(wrong, action="wrong_aimodel", aimodel="/".join(key))
            await self._tell_wrong(model, resource.get("status") or {}, wrong)
            return self._settings.resync_s
        if FINALIZER not in (resource["metadata"].get("finalizers") or []):
            await self._apply(AIMODEL, _with_finalizer(model))
        status = resource.get("status") or {}
        topics = await self._topics(model, status)
        keda = await self._cluster.knows(SCALED_OBJECT)
        before = await self._observe(model, status, topics, keda=keda)
        failure = ""
        if topics.made:  # never nodes without a queue, for KEDA would not begin to scale
            try:
                await self._make(model, before)
            except ClusterError as error:
                if error.status not in _REFUSALS:
                    raise
                failure = str(error)
        await self._tell(model, status, await self._observe(model, status, topics, keda=keda, failure=failure))
        return self._settings.resync_s

    async def _topics(self, model: AIModel, status: dict[str, Any]) -> Topics:
        made = any(
            each["type"] == "TopicReady" and each["status"] != "False" for each in status.get("conditions") or []
        )
        try:
            backlog = await self._admin.backlog(model.spec.model)
            if backlog is None or not made:
                await self._admin.ensure(model.spec.model)
            return Topics(True, backlog=backlog or 0)
        except BrokerAdminError as error:
            return Topics(made, str(error))

    async def _observe(
        self, model: AIModel, status: dict[str, Any], topics: Topics, *, keda: bool, failure: str = ""
    ) -> Observed:
        where = model.namespace, model.object_name
        found = await self._cluster.all(POD, model.namespace, selector(model))
        pods = {pod["metadata"]["name"] for pod in found if is_living(pod)}
        entries = status.get("nodes") or []
        return Observed(
            topics,
            keda,
            await self._cluster.get(DEPLOYMENT, *where) or {},
            await self._cluster.get(SCALED_OBJECT, *where) if keda else None,
            tuple(NodeEntry.of(entry) for entry in entries if entry["name"] in pods),
            failure,
        )

    async def _make(self, model: AIModel, seen: Observed) -> None:
        pod_monitors = await self._cluster.knows(POD_MONITOR)
        place = Place.of(self._settings, keda=seen.keda, pod_monitors=pod_monitors, ceiling=seen.ceiling)
        manifests = render(model, place)
        if seen.keda:
            await hand_over(self._cluster, model, seen.deployment)
        for manifest in manifests:
            kind = BY_NAME[manifest["kind"]]
            if kind == DEPLOYMENT and seen.keda and not seen.deployment:
                # Its first number is the least, and not the one node that a Deployment has by default; what KEDA says
                # later is left alone.
                manifest["spec"]["replicas"] = model.spec.min_replicas
            await self._apply(kind, manifest)
        wanted = {manifest["kind"] for manifest in manifests}
        for kind in MANAGED:
            known = seen.keda if kind.api_version == SCALED_OBJECT.api_version else pod_monitors
            if kind.optional and known and kind.name not in wanted:
                await self._remove(kind, model)

    async def _remove(self, kind: Any, model: AIModel) -> None:
        found = await self._cluster.get(kind, model.namespace, model.object_name)
        if found is not None and MANAGED_LABELS.items() <= (found["metadata"].get("labels") or {}).items():
            await self._cluster.delete(kind, model.namespace, model.object_name)

    async def _apply(self, kind: Any, manifest: Manifest) -> None:
        await self._cluster.apply(kind, manifest, manager=MANAGER)

    async def _tell(self, model: AIModel, status: dict[str, Any], seen: Observed) -> None:
        await self._forget_the_gone(model, status, seen)
        found = conditions(model, seen)
        told = status_of(model, seen, found, status)
        if any(status.get(name) != value for name, value in told.items()):
            await self._cluster.apply(AIMODEL, _head(model) | {"status": told}, manager=MANAGER, subresource="status")
            await tell_changes(self._cluster, model, found, status.get("conditions") or [])

    async def _tell_wrong(self, model: AIModel, status: dict[str, Any], wrong: str) -> None:
        """What is there of it stays as it is, and so does all else that the status tells: what is not applied, goes."""
        found, before = unreadable_conditions(wrong), status.get("conditions") or []
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fresh = {each["type"]: each for each in with_times(found, before, model.generation, now)}
        kept = [fresh.pop(each["type"], each) for each in before]
        told = {name: status[name] for name in FIGURES if name in status}
        told |= {"observedGeneration": model.generation, "conditions": [*kept, *fresh.values()], "lastError": wrong}
        if any(status.get(name) != value for name, value in told.items()):
            await self._cluster.apply(AIMODEL, _head(model) | {"status": told}, manager=MANAGER, subresource="status")
            await tell_changes(self._cluster, model, found, before)

    async def _forget_the_gone(self, model: AIModel, status: dict[str, Any], seen: Observed) -> None:
        """Take out the entries of nodes that died without taking theirs along."""
        kept = {node.name for node in seen.nodes}
        entries = status.get("nodes") or []
        for place in reversed(range(len(entries))):
            if entries[place]["name"] not in kept:
                path = f"/status/nodes/{place}"
                steps = [
                    {"op": "test", "path": f"{path}/name", "value": entries[place]["name"]},
                    {"op": "remove", "path": path},
                ]
                await self._cluster.patch(AIMODEL, model.namespace, model.name, steps, subresource="status")


FIGURES = ("replicas", "desiredNodes", "readyNodes", "selector", "waitingRequests")
"""What the controller tells besides conditions."""


def status_of(model: AIModel, seen: Observed, found: list[Condition], before: dict[str, Any]) -> dict[str, Any]:
    """The controller's part of the status."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told: dict[str, Any] = {
        "observedGeneration": model.generation,
        "replicas": seen.replicas,
        "desiredNodes": seen.desired,
        "readyNodes": seen.ready,
        "selector": ",".join(f"{name}={value}" for name, value in selector(model).items()),
        "conditions": with_times(found, before.get("conditions") or [], model.generation, now),
    }
    backlog = before.get("waitingRequests") if seen.topics.backlog is None else seen.topics.backlog
    if backlog is not None:
        told["waitingRequests"] = backlog
    wrong = next((each.message for each in found if each.type == "Degraded" and each.status == "True"), None)
    if error := wrong or before.get("lastError"):
        told["lastError"] = error
    return told


def _head(model: AIModel) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": model.name, "namespace": model.namespace},
    }


def _with_finalizer(model: AIModel) -> Manifest:
    head = _head(model)
    head["metadata"]["finalizers"] = [FINALIZER]
    return head
