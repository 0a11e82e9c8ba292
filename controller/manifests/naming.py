"""Names, labels and the head of each object of an AIModel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.aimodel import API_VERSION, GROUP, KIND

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.manifests.place import Manifest

MANAGER = "workernode-controller"
"""The field manager, and who manages the objects."""
MODEL_LABEL = f"{GROUP}/aimodel"
MANAGED = {"app.kubernetes.io/managed-by": MANAGER}


def selector(model: AIModel) -> dict[str, str]:
    """The labels by which an AIModel's Pods are found. They never change: a Deployment's selector cannot."""
    return {
        "app.kubernetes.io/name": "workernode",
        "app.kubernetes.io/component": "node",
        MODEL_LABEL: model.name,
    }


def labels(model: AIModel) -> dict[str, str]:
    """The labels of its objects."""
    return {
        **selector(model),
        "app.kubernetes.io/instance": model.name,
        "app.kubernetes.io/part-of": "workernode",
        **MANAGED,
    }


def of_model(model: AIModel, found: Manifest | None) -> Manifest | None:
    """The object, if it is this AIModel's. Somebody else may have one of that name."""
    ours = {**MANAGED, MODEL_LABEL: model.name}
    worn = ((found or {}).get("metadata") or {}).get("labels") or {}
    return found if ours.items() <= worn.items() else None


def head(model: AIModel, api_version: str, kind: str, annotations: dict[str, str] | None = None) -> Manifest:
    """An object's beginning, owned by the AIModel if that is in a cluster."""
    metadata: Manifest = {"name": model.object_name, "namespace": model.namespace, "labels": labels(model)}
    if annotations:
        metadata["annotations"] = annotations
    if model.uid:
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": model.name, "uid": model.uid}
        metadata["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
