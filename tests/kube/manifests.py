"""The manifests of deploy/k8s, built as `kubectl apply -k` builds them."""

from __future__ import annotations

import copy
import functools
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kube.api_server import ApiServer

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = ("minimal", "production")

Manifest = dict[str, Any]

PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
CLUSTERS_OWN = ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")


@functools.cache
def _built(overlay: str) -> str:
    found = subprocess.run([ROOT / "scripts" / "kustomize"], capture_output=True, text=True, check=False)
    if found.returncode:
        missing(f"There is no kustomize: {found.stderr.strip()}")
    command = [found.stdout.strip(), "build", str(K8S / "overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def overlay(name: str) -> list[Manifest]:
    """All objects of an overlay."""
    return [each for each in yaml.safe_load_all(_built(name)) if each]


def one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of this kind whose name begins so: those of a generator end with a digest."""
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"].startswith(name))
    return found


def pod_templates(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """What Pods are made of, by the object that makes them."""
    for each in objects:
        spec = each.get("spec", {})
        if "template" in spec:
            template = copy.deepcopy(spec["template"])
            for claim in spec.get("volumeClaimTemplates", ()):
                volume = {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "claimed"}}
                template["spec"]["volumes"].append(volume)
            yield f"{each['kind']}/{each['metadata']['name']}", template


def containers(template: Manifest) -> list[Manifest]:
    """All of a Pod."""
    spec = template["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def apply(server: ApiServer, manifest: Manifest, *, dry_run: bool = False) -> Any:
    """As `kubectl apply --server-side` does. Raises :class:`tests.kube.api_server.Refused`."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    place = f"/{'apis' if '/' in version else 'api'}/{version}"
    if kind not in CLUSTERS_OWN:
        place += f"/namespaces/{metadata['namespace']}"
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    query = "?fieldManager=kubectl&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
    path = f"{place}/{plural}/{metadata['name']}{query}"
    return server.ask("PATCH", path, manifest, content="application/apply-patch+yaml")
