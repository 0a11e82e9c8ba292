"""The Deployment of an AIModel's nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.manifests.availability import HEALTH_PORT
from controller.manifests.environment import environment
from controller.manifests.naming import head, labels, selector
from controller.manifests.volumes import mounts, volumes

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.manifests.place import Manifest, Place

USER = 10001
"""The user of the image; see the Dockerfile."""
CONTAINER = "node"
_LIGHT = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}}
"""A node that only passes on what a provider says."""
_STARTS_WITHIN_S = 300


def deployment(model: AIModel, place: Place) -> Manifest:
    """Without KEDA it has a fixed number of nodes; with KEDA that number is KEDA's and is never written."""
    spec: Manifest = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": _progress_s(model),
        "selector": {"matchLabels": selector(model)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(model)},
        "template": {"metadata": {"labels": labels(model)}, "spec": _pod(model, place)},
    }
    if not place.keda:
        spec["replicas"] = model.spec.fixed_replicas
    prices = model.spec.prices_ref
    noted = {"models.workernode.io/prices": f"{prices.name}/{prices.key}"} if prices else None
    return head(model, "apps/v1", "Deployment", noted) | {"spec": spec}


def _progress_s(model: AIModel) -> int:
    """How long until one more node is ready: one whose place was taken has waited for the grace period before."""
    spec = model.spec
    leaving_s = spec.grace_period_seconds if _needs_the_place(model) else 0
    return _STARTS_WITHIN_S + leaving_s + (spec.local.load_seconds if spec.local else 0)


def _needs_the_place(model: AIModel) -> bool:
    """A node with GPUs goes before its successor comes, for there may be no others free."""
    return model.spec.local is not None and model.spec.local.gpus > 0


def _rolling(model: AIModel) -> Manifest:
    if _needs_the_place(model):
        return {"maxSurge": 0, "maxUnavailable": 1}
    return {"maxSurge": 1, "maxUnavailable": 0}


def _pod(model: AIModel, place: Place) -> Manifest:
    spec = model.spec
    pod: Manifest = {
        "serviceAccountName": model.object_name,
        "automountServiceAccountToken": True,
        # Variables that name other services, such as PULSAR_PORT, would be taken for settings.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(model)},
            }
        ],
        "containers": [_container(model, place)],
        "volumes": volumes(model, place),
    }
    if spec.node_selector:
        pod["nodeSelector"] = spec.node_selector
    tolerations = list(spec.tolerations)
    if spec.local is not None and spec.local.gpus:
        tolerations.append({"key": spec.local.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    if tolerations:
        pod["tolerations"] = tolerations
    return pod


def _container(model: AIModel, place: Place) -> Manifest:
    return {
        "name": CONTAINER,
        "image": model.spec.image or (place.local_image if model.spec.local else place.image),
        "args": ["node"],
        "env": environment(model, place),
        "ports": [{"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        # The event loop and nothing else: to end a node that loads its model would only begin the load anew, and one
        # whose provider or broker is away is as well as any other.
        "startupProbe": _probe("/livez", every_s=2, failures=_STARTS_WITHIN_S // 2),
        "livenessProbe": _probe("/livez", every_s=10, failures=6),
        "readinessProbe": _probe("/readyz", every_s=5, failures=2),
        "resources": _resources(model),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts(model, place),
    }


def _probe(path: str, *, every_s: int, failures: int) -> Manifest:
    get = {"path": path, "port": "health", "scheme": "HTTP"}
    return {"httpGet": get, "periodSeconds": every_s, "timeoutSeconds": 5, "failureThreshold": failures}


def _resources(model: AIModel) -> Manifest:
    asked = model.spec.resources
    resources: Manifest = (
        {
            name: {what: str(amount) for what, amount in amounts.items()}
            for name, amounts in (("requests", asked.requests), ("limits", asked.limits))
            if amounts
        }
        if asked
        else {kind: dict(amounts) for kind, amounts in _LIGHT.items()}
    )
    if model.spec.local is not None and model.spec.local.gpus:
        resources.setdefault("limits", {})[model.spec.local.gpu_resource] = str(model.spec.local.gpus)
    return resources
