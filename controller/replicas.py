"""Who says how many nodes a Deployment has: the controller without KEDA, KEDA with it.

What a field manager applied before and does not apply any more is taken away, and a Deployment without a number of
replicas has one. So before the controller falls silent about the number, another manager says what it is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.kinds import DEPLOYMENT
from controller.manifests.naming import MANAGER

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.cluster import Cluster
    from controller.manifests import Manifest

KEEPER = "workernode-controller-replicas"
"""The field manager that holds the number until KEDA, or a person, writes another one."""


async def hand_over(cluster: Cluster, model: AIModel, deployment: Manifest) -> None:
    """Let go of the number of replicas, if the controller has it. Nothing changes for the nodes.

    Raises :class:`controller.cluster.ClusterError` with status 409 if the Deployment is not as it was read any more:
    KEDA may have written another number meanwhile, which must stay.
    """
    if deployment and _is_ours(deployment):
        said = replicas_only(model, deployment["spec"]["replicas"])
        said["metadata"]["resourceVersion"] = deployment["metadata"]["resourceVersion"]
        await cluster.apply(DEPLOYMENT, said, manager=KEEPER)


def replicas_only(model: AIModel, replicas: int) -> Manifest:
    """A manifest that says nothing but this number."""
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.name,
        "metadata": {"name": model.object_name, "namespace": model.namespace},
        "spec": {"replicas": replicas},
    }


def _is_ours(deployment: Manifest) -> bool:
    return any(
        entry["manager"] == MANAGER and "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        for entry in deployment["metadata"].get("managedFields") or []
    )
