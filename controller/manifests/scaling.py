"""KEDA's part: how many nodes a queue is worth.

msgBacklog counts what nodes work on as well as what waits, so a node's share of it is its slots and what may wait for
each of them, and there is no scale-down to zero under a running request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.manifests.naming import head
from wire.topics import WORKERS

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.manifests.place import Manifest, Place

POLL_S = 5
"""How long a first request waits at most before KEDA sees it; its default is 30."""
WINDOW_S_MAX = 3600
"""The longest stabilization window of a HorizontalPodAutoscaler."""


def backlog_threshold(model: AIModel) -> int:
    """Requests for each node."""
    return model.spec.slots * (1 + model.spec.waiting_per_slot)


def scaled_object(model: AIModel, place: Place) -> Manifest:
    """A model whose nodes are all rate limited is not scaled up: more nodes would share the same limit. The ceiling
    stands in maxReplicaCount, so that KEDA can still go down."""
    spec = model.spec
    trigger: Manifest = {
        "type": "pulsar",
        "metadata": {
            "adminURL": place.admin_url,
            "topic": place.topics.requests(spec.model),
            "subscription": WORKERS,
            "msgBacklogThreshold": str(backlog_threshold(model)),
            "activationMsgBacklogThreshold": "0",
        },
    }
    if place.token_secret:
        trigger["metadata"]["authModes"] = "bearer"
        trigger["authenticationRef"] = {"name": model.object_name}
    most = spec.max_replicas if place.ceiling is None else min(spec.max_replicas, place.ceiling)
    return head(model, "keda.sh/v1alpha1", "ScaledObject") | {
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.object_name},
            "minReplicaCount": spec.min_replicas,
            "maxReplicaCount": max(1, spec.min_replicas, most),
            "pollingInterval": POLL_S,
            "cooldownPeriod": spec.cooldown_seconds,
            "advanced": {
                "horizontalPodAutoscalerConfig": {
                    "behavior": {"scaleDown": {"stabilizationWindowSeconds": min(spec.cooldown_seconds, WINDOW_S_MAX)}}
                }
            },
            "triggers": [trigger],
        }
    }


def trigger_authentication(model: AIModel, place: Place) -> Manifest:
    """KEDA shows the nodes' token: reading a topic's statistics takes no more than consuming from it."""
    auth: Manifest = {
        "secretTargetRef": [{"parameter": "bearerToken", "name": place.token_secret, "key": "token"}],
    }
    if place.ca_configmap:
        auth["configMapTargetRef"] = [{"parameter": "ca", "name": place.ca_configmap, "key": "ca.crt"}]
    return head(model, "keda.sh/v1alpha1", "TriggerAuthentication") | {"spec": auth}
