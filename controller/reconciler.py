"""One look at one AIModel: what is there, what should be, what is told. The same whatever was the reason to look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.aimodel import FINALIZER, WrongModel, read, unreadable
from controller.broker_admin import BrokerAdminError
from controller.cluster import ClusterError
from controller.conditions import conditions, unreadable_conditions
from controller.kinds import (
    AIMODEL,
    BY_NAME,
    DEPLOYMENT,
    POD,
    POD_MONITOR,
    SCALED_OBJECT,
    TRIGGER_AUTHENTICATION,
)
from controller.manifests import Place, render
from controller.manifests.naming import MANAGER, of_model, selector
from controller.observed import NodeEntry, Observed, Topics, ending, hindrance, is_living, is_ready
from controller.removal import Removal
from controller.replicas import hand_over
from controller.status import changed_status, head_of, seen_status, write
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
_REFUSALS = (400, 403, 422, 500)
"""What an object's content, the controller's permissions or an admission webhook that is away (500) are the reason for;
it is told, and tried again later."""


class NotYet(Exception):
    """Something is in the way of what an AIModel should have. What it is, its status tells already."""


class Reconciler:
    """Raises :class:`controller.cluster.ClusterError` where a look has to be repeated."""

    def __init__(self, cluster: Cluster, admin: BrokerAdmin, settings: ControllerSettings) -> None:
        self._cluster = cluster
        self._admin = admin
        self._settings = settings
        self._removal = Removal(cluster, admin)

    async def look(self, key: Key) -> float | None:
        """Make it true and tell how it is. Returns after how many seconds to look again; None if it is gone.

        Raises :class:`NotYet` where that should be soon.
        """
        resource = await self._cluster.get(AIMODEL, *key)
        if resource is None:
            return None
        wrong = ""
        try:
            model = read(resource)
        except WrongModel as error:
            model, wrong = unreadable(resource), str(error)
        if resource["metadata"].get("deletionTimestamp"):
            return await self._removal.look(model, resource)
        if wrong:
            log.error(wrong, action="wrong_aimodel", aimodel="/".join(key))
            await self._tell_wrong(model, resource.get("status") or {}, wrong)
            return self._settings.resync_s
        if FINALIZER not in (resource["metadata"].get("finalizers") or []):
            await self._apply(AIMODEL, _with_finalizer(model))
        status = resource.get("status") or {}
        topics = await self._topics(model, status)
        keda = await self._cluster.knows(SCALED_OBJECT, model.namespace)
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
        if failure or not topics.made:
            raise NotYet
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
        runs = {pod["metadata"]["name"]: is_ready(pod) for pod in found if is_living(pod)}
        entries, now = status.get("nodes") or [], datetime.now(UTC)
        return Observed(
            topics,
            keda,
            of_model(model, await self._cluster.get(DEPLOYMENT, *where)) or {},
            of_model(model, await self._cluster.get(SCALED_OBJECT, *where)) if keda else None,
            tuple(NodeEntry.of(entry, runs=runs[entry["name"]]) for entry in entries if entry.get("name") in runs),
            failure,
            *(
                tuple(f"{pod['metadata']['name']}: {why}" for pod in found if (why := tells(pod, now)))
                for tells in (hindrance, ending)
            ),
        )

    async def _make(self, model: AIModel, seen: Observed) -> None:
        pod_monitors = await self._cluster.knows(POD_MONITOR, model.namespace)
        place = Place.of(self._settings, keda=seen.keda, pod_monitors=pod_monitors, ceiling=seen.ceiling)
        manifests = render(model, place)
        # One whose labels somebody has changed has its number of nodes all the same.
        deployment = seen.deployment or await self._cluster.get(DEPLOYMENT, model.namespace, model.object_name)
        if seen.keda:
            await hand_over(self._cluster, model, deployment or {})
        for manifest in manifests:
            kind = BY_NAME[manifest["kind"]]
            if kind == DEPLOYMENT and seen.keda and not deployment:
                # Its first number is the least, and not the one node that a Deployment has by default; what KEDA says
                # later is left alone.
                manifest["spec"]["replicas"] = model.spec.min_replicas
            await self._apply(kind, manifest)
        if seen.keda and not place.token_secret:  # there was one, perhaps
            where = TRIGGER_AUTHENTICATION, model.namespace, model.object_name
            if of_model(model, await self._cluster.get(*where)) is not None:
                await self._cluster.delete(*where)

    async def _apply(self, kind: Any, manifest: Manifest) -> None:
        await self._cluster.apply(kind, manifest, manager=MANAGER)

    async def _tell(self, model: AIModel, status: dict[str, Any], seen: Observed) -> None:
        await self._forget_the_gone(model, status, seen)
        found = conditions(model, seen)
        await write(self._cluster, model, seen_status(model, seen, found, status), found, status)

    async def _tell_wrong(self, model: AIModel, status: dict[str, Any], wrong: str) -> None:
        """What is there of it stays as it is, and so does all else that the status tells."""
        found = unreadable_conditions(wrong)
        await write(self._cluster, model, changed_status(model, found, status, lastError=wrong), found, status)

    async def _forget_the_gone(self, model: AIModel, status: dict[str, Any], seen: Observed) -> None:
        """Take out the entries of nodes that died without taking theirs along."""
        kept = {node.name for node in seen.nodes}
        entries = status.get("nodes") or []
        for place in reversed(range(len(entries))):
            name = entries[place].get("name")
            if name not in kept:
                path = f"/status/nodes/{place}"
                steps = [
                    {"op": "test", "path": f"{path}/name", "value": name},
                    {"op": "remove", "path": path},
                ]
                await self._cluster.patch(AIMODEL, model.namespace, model.name, steps, subresource="status")


def _with_finalizer(model: AIModel) -> Manifest:
    head = head_of(model)
    head["metadata"]["finalizers"] = [FINALIZER]
    return head
