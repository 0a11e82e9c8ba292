"""What nodes may do in the cluster: apply their entry in the status of their own AIModel, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.aimodel import GROUP
from controller.manifests.naming import head

if TYPE_CHECKING:
    from controller.aimodel import AIModel
    from controller.manifests.place import Manifest, Place


def service_account(model: AIModel, place: Place) -> Manifest:
    """Who the nodes are. Its token is mounted by the Deployment, for nothing else should have it by chance."""
    account = head(model, "v1", "ServiceAccount") | {"automountServiceAccountToken": False}
    if place.image_pull_secret:
        account["imagePullSecrets"] = [{"name": place.image_pull_secret}]
    return account


def role(model: AIModel) -> Manifest:
    """Server-side apply is a patch; nothing is read."""
    rule = {"apiGroups": [GROUP], "resources": ["aimodels/status"], "resourceNames": [model.name], "verbs": ["patch"]}
    return head(model, "rbac.authorization.k8s.io/v1", "Role") | {"rules": [rule]}


def role_binding(model: AIModel) -> Manifest:
    """The role for the account."""
    name, group = model.object_name, "rbac.authorization.k8s.io"
    return head(model, f"{group}/v1", "RoleBinding") | {
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": model.namespace}],
    }
