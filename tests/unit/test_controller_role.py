"""What deploy/k8s lets the controller do is what it does, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from controller.kinds import AIMODEL, MANAGED, Kind
from controller.reconciler import Reconciler
from controller.settings import ControllerSettings
from process.settings import load
from tests.unit.test_controller_reconciler import KEY, OneBroker, OneCluster

if TYPE_CHECKING:
    from collections.abc import Iterable

ROLE = Path(__file__).parents[2] / "deploy" / "k8s" / "base" / "controller-role.yaml"
FOR_OWNERS = ("models.workernode.io", "aimodels/finalizers", "update")
"""A cluster may ask for it of whoever makes objects without which their owner cannot go."""


class Noting(OneCluster):
    """A cluster that knows every kind, and notes what is done with which."""

    def __init__(self, **status: Any) -> None:
        super().__init__(**status)
        self.used: set[tuple[str, str, str]] = set()

    def note(self, kind: Kind, *verbs: str, subresource: str = "") -> None:
        group = kind.api_version.rpartition("/")[0]
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        self.used |= {(group, resource, verb) for verb in verbs}

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        self.note(kind, "get")
        return await super().get(kind, namespace, name)

    async def all(self, kind: Kind, namespace: str = "", labels: Any = None) -> Any:
        self.note(kind, "list")
        return await super().all(kind, namespace, labels)

    async def knows(self, kind: Kind, namespace: str) -> bool:
        self.note(kind, "list")
        return True

    async def apply(self, kind: Kind, manifest: Any, *, manager: str, subresource: str = "") -> Any:
        # What is applied and not there is created; an AIModel is.
        self.note(kind, "patch", *(() if kind == AIMODEL else ("create",)), subresource=subresource)
        return await super().apply(kind, manifest, manager=manager, subresource=subresource)

    async def patch(self, kind: Kind, namespace: str, name: str, steps: Any, *, subresource: str = "") -> None:
        self.note(kind, "patch", subresource=subresource)
        await super().patch(kind, namespace, name, steps, subresource=subresource)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.note(kind, "delete")
        await super().delete(kind, namespace, name)


def granted(rules: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def test_the_controller_has_each_permission_that_it_uses_and_uses_each_that_it_has() -> None:
    cluster = Noting(nodes=[{"name": "gone", "state": "Ready"}])
    metadata = cluster.objects[AIMODEL.name]["metadata"]
    environ = {"PULSAR_ADMIN_URL": "http://pulsar.workernode:8080"}
    # At first with a token for KEDA, then without one.
    for settings in (environ | {"NODE_TOKEN_SECRET": "token"}, environ):
        reconciler = Reconciler(cluster, OneBroker(), load(ControllerSettings, settings))  # type: ignore[arg-type]
        await reconciler.look(KEY)
    cluster.objects[AIMODEL.name]["metadata"] = metadata | {"deletionTimestamp": "2030-01-01T00:00:00Z"}
    await reconciler.look(KEY)
    for kind in (AIMODEL, *MANAGED):
        cluster.note(kind, "list", "watch")
    role = next(each for each in yaml.safe_load_all(ROLE.read_text()) if each["kind"] == "ClusterRole")
    assert cluster.used | {FOR_OWNERS} == granted(role["rules"])
