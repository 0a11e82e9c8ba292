"""What deploy/k8s holds is what Kubernetes takes, and no more open than it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from broker import access
from fleet.credentials import made
from tests.kube.api_server import Refused
from tests.kube.manifests import K8S, OVERLAYS, ROOT, Manifest, apply, containers, one, overlay, pod_templates

if TYPE_CHECKING:
    from tests.kube.api_server import ApiServer

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
SETTINGS = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
OF_OTHERS = {"PULSAR_STANDALONE_CONF", "PULSAR_MEM", "PULSAR_LOG_LEVEL"}
"""What Pulsar's own start script reads."""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_is_strictly_valid(name: str, version: str) -> None:
    for each in overlay(name):
        kubernetes_validate.validate(each, version, strict=True)


def test_the_example_of_secrets_is_valid_and_has_all_that_production_refers_to() -> None:
    examples = list(yaml.safe_load_all((K8S / "overlays" / "production" / "secrets.example.yaml").read_text()))
    for each in examples:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    assert _referred(overlay("production")) - _given(overlay("production")) == _given(examples)


def test_the_setup_makes_every_secret_that_minimal_refers_to() -> None:
    objects = overlay("minimal")
    secrets = {
        (made.KEYS, *made.keys()),
        (made.SIGNING, *made.signing()),
        *((name, "token") for name in made.TOKENS),
    }
    makes = {("Secret", name, entry) for name, *entries in secrets for entry in entries}
    missing = _referred(objects) - _given(objects)
    assert missing <= makes
    assert {name for _, name, _ in makes} == {name for _, name, _ in missing}


def _given(objects: list[Manifest]) -> set[tuple[str, str, str]]:
    return {
        (each["kind"], each["metadata"]["name"], entry)
        for each in objects
        if each["kind"] in ("Secret", "ConfigMap")
        for entry in {**each.get("data", {}), **each.get("stringData", {})}
    }


def _referred(objects: list[Manifest]) -> set[tuple[str, str, str]]:
    """Entries of Secrets and ConfigMaps that Pods read; of mounted ones by the path that a setting names."""
    found = set()
    given = _given(objects)
    for _, template in pod_templates(objects):
        volumes = {each["name"]: each for each in template["spec"].get("volumes", ())}
        for container in containers(template):
            for entry in container.get("env", ()):
                if (ref := entry.get("valueFrom", {}).get("secretKeyRef")) is not None:
                    found.add(("Secret", ref["name"], ref["key"]))
            for mount in container.get("volumeMounts", ()):
                volume = volumes[mount["name"]]
                if "secret" in volume:
                    name = volume["secret"]["secretName"]
                    found.add(("Secret", name, "key" if name == made.SIGNING else "token"))
                elif "configMap" in volume:
                    name = volume["configMap"]["name"]
                    held = {entry for _, each, entry in given if each == name} or {"ca.crt"}
                    found |= {("ConfigMap", name, entry) for entry in held}
            found |= {
                ("ConfigMap", each["configMapRef"]["name"], entry)
                for each in container.get("envFrom", ())
                for kind, name, entry in given
                if (kind, name) == ("ConfigMap", each["configMapRef"]["name"])
            }
    # What nodes need is referred to by the controller's settings.
    env = _env(one(objects, "Deployment", "workernode-controller")["spec"]["template"]["spec"]["containers"][0])
    found.add(("Secret", env["NODE_TOKEN_SECRET"], "token"))
    return found


def _env(container: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container.get("env", ())}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_setting_that_an_overlay_names_exists(name: str) -> None:
    objects = overlay(name)
    (config,) = (each for each in objects if each["kind"] == "ConfigMap" and "PULSAR_URL" in each["data"])
    named = {*config["data"]}
    for _, template in pod_templates(objects):
        for container in containers(template):
            named |= _env(container).keys()
    files = {each for each in named if each.endswith("_FILE") and each not in SETTINGS}
    assert named - files - OF_OTHERS <= SETTINGS
    assert {each.removesuffix("_FILE") for each in files} <= SETTINGS


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_role_has_probes_resources_a_budget_and_nothing_it_could_misuse(name: str) -> None:
    objects = overlay(name)
    budgets = [each["spec"]["selector"]["matchLabels"] for each in objects if each["kind"] == "PodDisruptionBudget"]
    for what, template in pod_templates(objects):
        for container in containers(template):
            assert container["securityContext"] == RESTRICTED, what
            assert {"requests", "limits"} <= container["resources"].keys(), what
            if not what.startswith("Job/"):
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), what
        assert "automountServiceAccountToken" in template["spec"], what
        if what.startswith("Deployment/"):
            labels = template["metadata"]["labels"]
            assert any(budget.items() <= labels.items() for budget in budgets), what


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pods_of_a_role_that_has_several_are_on_different_machines_where_there_are_some(name: str) -> None:
    for each in overlay(name):
        if each["kind"] == "Deployment" and each["spec"].get("replicas") != 1:
            template = each["spec"]["template"]
            (spread,) = template["spec"]["topologySpreadConstraints"]
            labels = spread["labelSelector"]["matchLabels"]
            assert labels == each["spec"]["selector"]["matchLabels"]
            assert spread["topologyKey"] == "kubernetes.io/hostname"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_shut_off_but_for_what_a_policy_names(name: str) -> None:
    policies = [each["spec"] for each in overlay(name) if each["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    for what, template in pod_templates(overlay(name)):
        own = [
            policy
            for policy in policies
            if policy["podSelector"]
            and policy["podSelector"].get("matchLabels", {}).items() <= template["metadata"]["labels"].items()
        ]
        assert own, what


@pytest.mark.parametrize("name", OVERLAYS)
def test_nodes_get_the_image_of_the_other_roles(name: str) -> None:
    objects = overlay(name)
    images = {
        container["image"]
        for _, template in pod_templates(objects)
        for container in containers(template)
        if "pulsar" not in container["image"]
    }
    controller = one(objects, "Deployment", "workernode-controller")["spec"]["template"]["spec"]["containers"][0]
    assert images == {_env(controller)["IMAGE"]}


def test_the_broker_of_minimal_has_the_projects_settings_and_asks_for_tokens() -> None:
    settings = one(overlay("minimal"), "ConfigMap", "workernode-pulsar-")["data"]
    assert settings["standalone.conf"] == (ROOT / "deploy" / "pulsar" / "standalone.conf").read_text()
    lines = settings["cluster.conf"].splitlines()
    assert {"authenticationEnabled=true", "authorizationEnabled=true", f"superUserRoles={made.ADMIN}"} <= set(lines)


def test_each_role_has_the_token_of_its_name() -> None:
    assert made.TOKENS == {
        "workernode-pulsar-admin": made.ADMIN,
        "workernode-pulsar-gateway": access.GATEWAY,
        "workernode-pulsar-node": access.NODE,
        "workernode-pulsar-management": access.MANAGEMENT,
        "workernode-pulsar-controller": access.CONTROLLER,
    }


@pytest.mark.kube
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_api_server_takes_every_object_and_restricted_pods(api_server: ApiServer, name: str) -> None:
    objects = overlay(name)
    namespace = one(objects, "Namespace", "workernode")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    apply(api_server, namespace)
    for each in objects:
        apply(api_server, each, dry_run=True)
    for what, template in pod_templates(objects):
        metadata = {**template["metadata"], "name": "it", "namespace": "workernode"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        apply(api_server, pod, dry_run=True)  # a Deployment's Pods are only judged when they are made
        pod["spec"] = {**template["spec"], "hostNetwork": True}
        with pytest.raises(Refused, match="violates PodSecurity"):
            apply(api_server, pod, dry_run=True)
        assert what
