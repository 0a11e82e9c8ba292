"""A service account as a Pod has it: a folder with its token, and where the API server is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.manifests import apply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kube.api_server import ApiServer


def mounted(server: ApiServer, namespace: str, name: str, folder: Path) -> dict[str, str]:
    """What the kubelet gives a Pod of this account: the settings that say where it is."""
    folder.mkdir()
    (folder / "token").write_text(server.token_of(namespace, name))
    (folder / "ca.crt").write_text(server.authority.read_text())
    (folder / "namespace").write_text(namespace)
    return {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": server.url.rpartition(":")[2],
        "SERVICE_ACCOUNT_DIR": str(folder),
    }


def allow(server: ApiServer, namespace: str, name: str, rules: list[dict[str, Any]]) -> None:
    """Make an account that may do what the rules say, and nothing else."""
    rbac = "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace}
    apply(server, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    apply(server, {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    binding = {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": metadata}
    role = {"apiGroup": rbac, "kind": "Role", "name": name}
    apply(server, {**binding, "roleRef": role, "subjects": [{"kind": "ServiceAccount", **metadata}]})
