"""The end of an AIModel: its nodes finish what they work on before its objects go."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from controller.aimodel import FINALIZER
from controller.broker_admin import BrokerAdminError
from controller.cluster import ClusterError
from controller.conditions import removal_condition
from controller.kinds import AIMODEL, DEPLOYMENT, POD, SCALED_OBJECT
from controller.manifests.naming import of_model, selector
from controller.observed import is_living
from controller.replicas import KEEPER, replicas_only
from controller.status import changed_status, write
from process.logging import Log

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def __init__(self, cluster: Cluster, admin: BrokerAdmin, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._admin = admin
        self._clock = clock
        self._began: dict[str, float] = {}
        """When nodes were first seen to be told to leave, by uid: no controller may have run at the deletion."""
        self._deleting = asyncio.Lock()
        """Of several AIModels with one queue that go at once, the last one has to find no other."""

    async def look(self, model: AIModel, resource: dict[str, Any]) -> float | None:
        """One step further. Returns after how many seconds to look again; None when all is done."""
        if FINALIZER not in (resource["metadata"].get("finalizers") or []):
            return None
        deployment = await self._drain(model)
        left = max(_counted(deployment, "replicas"), len(await self._pods(model)))
        began = self._began.setdefault(model.uid, self._clock())
        overdue = self._clock() - began >= model.spec.grace_period_seconds + DRAIN_EXTRA_S
        if left and not overdue:
            sentence = f"Waiting for {left} node{'' if left == 1 else 's'} to finish and leave."
            await self._tell(model, resource, deployment, sentence, "Draining")
            return LOOK_AGAIN_S
        if left:
            log.warning("Nodes did not leave in time.", action="drain_overdue", aimodel=model.name, nodes=left)
        deletes = model.spec.topic_deletion == "Delete"
        async with self._deleting if deletes else nullcontext():
            try:
                if deletes and not await self._is_declared_elsewhere(model):
                    await self._admin.delete(model.spec.model)
            except (BrokerAdminError, ClusterError) as error:
                sentence = f"Waiting for the topics to be deleted: {error}"
                sentence += " To keep them, set spec.topicDeletion to Retain."
                await self._tell(model, resource, deployment, sentence, "DeletingTopics")
                return LOOK_AGAIN_S
            await self._release(model, resource)
        self._began.pop(model.uid, None)
        return None

    async def _drain(self, model: AIModel) -> Manifest:
        """Have all nodes leave. The Deployment, empty if there is none."""
        where = model.namespace, model.object_name
        if of_model(model, await self._cluster.get(SCALED_OBJECT, *where)) is not None:
            await self._cluster.delete(SCALED_OBJECT, *where)  # it would bring nodes back
        deployment = of_model(model, await self._cluster.get(DEPLOYMENT, *where)) or {}
        if deployment and deployment["spec"].get("replicas") != 0:
            await self._cluster.apply(DEPLOYMENT, replicas_only(model, 0), manager=KEEPER)
        return deployment

    async def _pods(self, model: AIModel) -> list[Any]:
        pods = await self._cluster.all(POD, model.namespace, selector(model))
        return [pod for pod in pods if is_living(pod)]

    async def _is_declared_elsewhere(self, model: AIModel) -> bool:
        """Whether another AIModel has the same queue."""
        return any(
            other["spec"].get("model") == model.spec.model and other["metadata"]["uid"] != model.uid
            for other in await self._cluster.all(AIMODEL)
        )

    async def _tell(
        self, model: AIModel, resource: dict[str, Any], deployment: Manifest, sentence: str, reason: str
    ) -> None:
        before = resource.get("status") or {}
        found = [removal_condition(sentence, reason=reason)]
        told = changed_status(
            model,
            found,
            before,
            replicas=_counted(deployment, "replicas"),
            desiredNodes=0,
            readyNodes=_counted(deployment, "readyReplicas"),
        )
        await write(self._cluster, model, told, found, before)

    async def _release(self, model: AIModel, resource: dict[str, Any]) -> None:
        finalizers = resource["metadata"]["finalizers"]
        place = finalizers.index(FINALIZER)
        path = f"/metadata/finalizers/{place}"
        steps = [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]
        await self._cluster.patch(AIMODEL, model.namespace, model.name, steps)


def _counted(deployment: Manifest, name: str) -> int:
    return int((deployment.get("status") or {}).get(name) or 0)
