"""A cluster for the tests of this folder, as far as an API server is one."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kube.api_server import ApiServer, ApiServerMissing, Refused
from tests.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

CRD = Path(__file__).parents[2] / "deploy" / "k8s" / "crd.yaml"
KEDA = Path(__file__).parent / "keda"
"""KEDA's own resource definitions; see README.md there."""


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """One for the whole run, with AIModel and KEDA's resources. Its tests take namespaces of their own."""
    server = ApiServer()
    try:
        server.start()
        for path in (CRD, *sorted(KEDA.glob("*.yaml"))):
            install(server, yaml.safe_load(path.read_text()))
        yield server
    except ApiServerMissing as absent:
        missing(f"There is no API server of Kubernetes: {absent}.")
    finally:
        server.stop()


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of this test's own, in which Pods keep the restricted standard."""
    return new_namespace(api_server)


def new_namespace(api_server: ApiServer) -> str:
    """A namespace that nobody else has."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    api_server.ask("POST", "/api/v1/namespaces", body)
    return name


def install(server: ApiServer, crd: dict[str, Any]) -> None:
    """Define a resource, and return when it is served."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    name = crd["metadata"]["name"]
    query = "?fieldManager=test&force=true"
    server.ask("PATCH", f"{path}/{name}{query}", crd, content="application/apply-patch+yaml")
    spec = crd["spec"]
    served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
    deadline = time.monotonic() + 20
    while True:
        try:
            server.ask("GET", served)
            return
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="session")
def controller_token(api_server: ApiServer) -> str:
    """The token of the controller's service account, with the permissions that deploy/k8s gives it."""
    ensure_namespace(api_server, "workernode")
    for manifest in yaml.safe_load_all((CRD.parent / "base" / "controller-role.yaml").read_text()):
        metadata = manifest["metadata"]
        place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        path = f"/apis/rbac.authorization.k8s.io/v1{place}/{manifest['kind'].lower()}s/{metadata['name']}"
        query = "?fieldManager=test&force=true&fieldValidation=Strict"
        api_server.ask("PATCH", path + query, manifest, content="application/apply-patch+yaml")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "workernode-controller"}}
    path = "/api/v1/namespaces/workernode/serviceaccounts/workernode-controller?fieldManager=test&force=true"
    api_server.ask("PATCH", path, account, content="application/apply-patch+yaml")
    return api_server.token_of("workernode", "workernode-controller")


def bind_controller(api_server: ApiServer, namespace: str) -> None:
    """Let the controller do in this namespace what it may do in its own."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "workernode-controller"}
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "workernode-controller"},
        "roleRef": role,
        "subjects": [{"kind": "ServiceAccount", "name": "workernode-controller", "namespace": "workernode"}],
    }
    api_server.ask("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", body)


def ensure_namespace(api_server: ApiServer, name: str) -> None:
    """A namespace, if it is not there."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{name}?fieldManager=test"
    api_server.ask("PATCH", path, body, content="application/apply-patch+yaml")
