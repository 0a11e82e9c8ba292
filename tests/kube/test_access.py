"""What a node's service account may do in the cluster: apply the status of its own AIModel, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.aimodel import read
from controller.manifests import Place, render
from controller.settings import ControllerSettings
from process.settings import load
from tests.kube.api_server import Refused
from tests.kube.conftest import new_namespace
from tests.kube.controlled import APIS
from tests.kube.models import BASE, STATIC, resource

if TYPE_CHECKING:
    from tests.kube.api_server import ApiServer

pytestmark = pytest.mark.kube

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PLACE = Place.of(
    load(ControllerSettings, {"PULSAR_ADMIN_URL": "http://pulsar.workernode:8080"}), keda=True, pod_monitors=False
)


@pytest.fixture
def token(api_server: ApiServer, namespace: str) -> str:
    """Of a node of the first of two models."""
    return declared(api_server, namespace)


@pytest.fixture(scope="module")
def untouched(api_server: ApiServer) -> tuple[str, str]:
    """A namespace with such models, and the token, for tests that change nothing."""
    namespace = new_namespace(api_server)
    return namespace, declared(api_server, namespace)


def declared(api_server: ApiServer, namespace: str) -> str:
    """Apply what the controller renders for two models; the token of a node of the first."""
    for name in ("mine", "other"):
        made = api_server.ask("POST", f"{BASE}/{namespace}/aimodels", resource(name, STATIC))
        for manifest in render(read(made), PLACE):
            path = f"{APIS[manifest['kind']].format(f'namespaces/{namespace}')}/aimodel-{name}"
            query = "?fieldManager=workernode-controller&fieldValidation=Strict"
            api_server.ask("PATCH", path + query, manifest, content=APPLY)
    return api_server.token_of(namespace, "aimodel-mine")


def entry(state: str = "Ready") -> dict[str, Any]:
    """What a node applies."""
    head = {"apiVersion": "models.workernode.io/v1alpha1", "kind": "AIModel", "metadata": {"name": "mine"}}
    return head | {"status": {"nodes": [{"name": "node-1", "state": state, "slots": 3, "busy": 1}]}}


def test_a_node_may_apply_its_entry_in_the_status_of_its_own_model(
    api_server: ApiServer, namespace: str, token: str
) -> None:
    path = f"{BASE}/{namespace}/aimodels/mine/status?fieldManager=workernode-node-1&force=true"
    for state in ("Loading", "Ready", "RateLimited", "QuotaExhausted", "AuthenticationFailed", "Misconfigured"):
        done = api_server.ask("PATCH", path, entry(state), token=token, content=APPLY)
        assert [each["state"] for each in done["status"]["nodes"]] == [state]
    with pytest.raises(Refused, match="Unsupported value"):
        api_server.ask("PATCH", path, entry("Splendid"), token=token, content=APPLY)


def test_two_nodes_never_stand_in_one_anothers_way(api_server: ApiServer, namespace: str, token: str) -> None:
    path = f"{BASE}/{namespace}/aimodels/mine/status?fieldManager="
    for name in ("node-1", "node-2"):
        body = entry()
        body["status"]["nodes"][0]["name"] = name
        done = api_server.ask("PATCH", path + name, body, token=token, content=APPLY)  # not by force
    assert [each["name"] for each in done["status"]["nodes"]] == ["node-1", "node-2"]
    done = api_server.ask("PATCH", path + "node-1", entry() | {"status": {"nodes": []}}, token=token, content=APPLY)
    assert [each["name"] for each in done["status"]["nodes"]] == ["node-2"]


FORBIDDEN = {
    "the status of another model": ("PATCH", "{models}/other/status", {"status": {"lastError": "x"}}),
    "its model's spec": ("PATCH", "{models}/mine", {"spec": {"maxReplicas": 1000}}),
    "its model's scale": ("PATCH", "{models}/mine/scale", {"spec": {"replicas": 5}}),
    "to read its model's status": ("GET", "{models}/mine/status", None),
    "to replace its model's status": ("PUT", "{models}/mine/status", resource("mine", STATIC)),
    "to read its model": ("GET", "{models}/mine", None),
    "to list models": ("GET", "{models}", None),
    "to delete its model": ("DELETE", "{models}/mine", None),
    "a model of its own": ("POST", "{models}", resource("third", STATIC)),
    "to read secrets": ("GET", "/api/v1/namespaces/{namespace}/secrets", None),
    "to read one secret": ("GET", "/api/v1/namespaces/{namespace}/secrets/provider", None),
    "to read settings": ("GET", "/api/v1/namespaces/{namespace}/configmaps", None),
    "to see pods": ("GET", "/api/v1/namespaces/{namespace}/pods", None),
    "to make pods": ("POST", "/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "p"}}),
    "to change its Deployment": ("PATCH", "{deployments}/aimodel-mine", {"spec": {"replicas": 9}}),
    "to scale its Deployment": ("PATCH", "{deployments}/aimodel-mine/scale", {"spec": {"replicas": 9}}),
    "to change its role": ("PATCH", "{roles}/aimodel-mine", {"rules": []}),
    "another token": ("POST", "/api/v1/namespaces/{namespace}/serviceaccounts/aimodel-other/token", {}),
    "other namespaces": ("GET", "/apis/models.workernode.io/v1alpha1/aimodels", None),
    "nodes of the cluster": ("GET", "/api/v1/nodes", None),
}


@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_node_is_forbidden(
    api_server: ApiServer, untouched: tuple[str, str], method: str, path: str, body: object
) -> None:
    namespace, token = untouched
    here = path.format(
        namespace=namespace,
        models=f"{BASE}/{namespace}/aimodels",
        deployments=APIS["Deployment"].format(f"namespaces/{namespace}"),
        roles=APIS["Role"].format(f"namespaces/{namespace}"),
    )
    content = MERGE if method == "PATCH" else "application/json"
    with pytest.raises(Refused) as refused:
        api_server.ask(method, here, body, token=token, content=content)
    assert refused.value.status == 403
    assert f"system:serviceaccount:{namespace}:aimodel-mine" in refused.value.message


def test_a_nodes_pod_keeps_the_restricted_standard(api_server: ApiServer, namespace: str, token: str) -> None:
    deployment = api_server.ask("GET", f"{APIS['Deployment'].format(f'namespaces/{namespace}')}/aimodel-mine")
    spec = deployment["spec"]["template"]["spec"]
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    api_server.ask("POST", path, pod)
    del spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    with pytest.raises(Refused, match='violates PodSecurity "restricted:latest"'):
        api_server.ask("POST", path, pod)
