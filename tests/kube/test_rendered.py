"""The API server, with KEDA's own definitions, takes every manifest that is rendered, to the last field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kube.api_server import Refused
from tests.kube.controlled import APIS
from tests.unit.test_controller_manifests import MODELS, manifests

if TYPE_CHECKING:
    from tests.kube.api_server import ApiServer

pytestmark = pytest.mark.kube

QUERY = "?fieldManager=test&fieldValidation=Strict&dryRun=All"


@pytest.mark.parametrize("name", MODELS)
def test_every_rendered_manifest_is_strictly_taken(api_server: ApiServer, namespace: str, name: str) -> None:
    taken = set()
    for manifest in manifests(name):
        if manifest["kind"] in APIS:  # the definition of a PodMonitor is not at hand
            manifest["metadata"]["namespace"] = namespace
            path = f"{APIS[manifest['kind']].format(f'namespaces/{namespace}')}/{manifest['metadata']['name']}"
            api_server.ask("PATCH", path + QUERY, manifest, content="application/apply-patch+yaml")
            taken.add(manifest["kind"])
    assert "Deployment" in taken
    assert ("ScaledObject" in taken) == (name != "remote-without-keda")


def test_a_field_that_keda_does_not_have_would_be_refused(api_server: ApiServer, namespace: str) -> None:
    scaled = next(each for each in manifests("static") if each["kind"] == "ScaledObject")
    scaled["metadata"]["namespace"] = namespace
    scaled["spec"]["minReplicas"] = 1
    path = f"{APIS['ScaledObject'].format(f'namespaces/{namespace}')}/aimodel-static"
    with pytest.raises(Refused, match=r"field not declared in schema|unknown field"):
        api_server.ask("PATCH", path + QUERY, scaled, content="application/apply-patch+yaml")
