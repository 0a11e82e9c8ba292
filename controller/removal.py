"""The end of an AIModel: its nodes finish what they work on before its objects go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.aimodel import API_VERSION, FINALIZER, KIND
from controller.broker_admin import BrokerAdminError
from controller.conditions import removal_condition, with_times
from controller.kinds import AIMODEL, DEPLOYMENT, POD, SCALED_OBJECT
from controller.manifests.naming import MANAGER, selector
from controller.notices import tell_changes
from controller.observed import is_living
from controller.replicas import KEEPER, replicas_only
from process.logging import Log

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.broker_admin import BrokerAdmin
    from controller.cluster import Cluster
    from controller.manifests import Manifest

log = Log("controller")

LOOK_AGAIN_S = 2.0
DRAIN_EXTRA_S = 60.0
"""How much longer than their grace period nodes may take to be gone. Then the AIModel goes without having seen it."""


class Removal:
    """What :meth:`look` does is right at whatever point an earlier look was broken off."""

    def __init__(self, cluster: Cluster, admin: BrokerAdmin) -> None:
        self._cluster = cluster
        self._admin = admin

    async def look(self, model: AIModel, resource: dict[str, Any], *, keda: bool) -> float | None:
        """One step further. Returns after how many seconds to look again; None when all is done."""
        if FINALIZER not in (resource["metadata"].get("finalizers") or []):
            return None
        left = await self._drain(model, keda=keda)
        overdue_s = _age_s(resource["metadata"]["deletionTimestamp"]) - model.spec.grace_period_seconds - DRAIN_EXTRA_S
        if left and overdue_s < 0:
            await self._tell(model, resource, f"Waiting for {left} node{'' if left == 1 else 's'} to finish and leave.")
            return LOOK_AGAIN_S
        if left:
            log.warning("Nodes did not leave in time.", action="drain_overdue", aimodel=model.name, nodes=left)
        if model.spec.topic_deletion == "Delete" and not await self._is_declared_elsewhere(model):
            try:
                await self._admin.delete(model.spec.model)
            except BrokerAdminError as error:
                sentence = (
                    f"Waiting for the topics to be deleted: {error} To keep them, set spec.topicDeletion to Retain."
                )
                await self._tell(model, resource, sentence, reason="DeletingTopics")
                return LOOK_AGAIN_S
        await self._release(model, resource)
        return None

    async def _drain(self, model: AIModel, *, keda: bool) -> int:
        """Have all nodes leave; how many are still there."""
        where = model.namespace, model.object_name
        if keda:
            await self._cluster.delete(SCALED_OBJECT, *where)  # it would bring nodes back
        deployment = await self._cluster.get(DEPLOYMENT, *where)
        if deployment is not None and deployment["spec"].get("replicas") != 0:
            await self._cluster.apply(DEPLOYMENT, replicas_only(model, 0), manager=KEEPER)
        counted = int(((deployment or {}).get("status") or {}).get("replicas") or 0)
        return max(counted, len(await self._pods(model)))

    async def _pods(self, model: AIModel) -> list[Any]:
        pods = await self._cluster.all(POD, model.namespace, selector(model))
        return [pod for pod in pods if is_living(pod)]

    async def _is_declared_elsewhere(self, model: AIModel) -> bool:
        """Whether another AIModel has the same queue."""
        return any(
            other["spec"].get("model") == model.spec.model and other["metadata"]["uid"] != model.uid
            for other in await self._cluster.all(AIMODEL)
        )

    async def _tell(self, model: AIModel, resource: dict[str, Any], sentence: str, *, reason: str = "Draining") -> None:
        status = resource.get("status") or {}
        before = status.get("conditions") or []
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = [removal_condition(sentence, reason=reason)]
        told = with_times(found, before, model.generation, now)
        if told[0] not in before:
            said: Manifest = {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": model.name, "namespace": model.namespace},
                "status": {"conditions": told},
            }
            await self._cluster.apply(AIMODEL, said, manager=MANAGER, subresource="status")
            await tell_changes(self._cluster, model, found, before)

    async def _release(self, model: AIModel, resource: dict[str, Any]) -> None:
        finalizers = resource["metadata"]["finalizers"]
        place = finalizers.index(FINALIZER)
        path = f"/metadata/finalizers/{place}"
        steps = [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]
        await self._cluster.patch(AIMODEL, model.namespace, model.name, steps)


def _age_s(timestamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()
