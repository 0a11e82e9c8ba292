"""How long a deletion waits, and for whom, at a cluster that is a dictionary."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.aimodel import FINALIZER, AIModel, read
from controller.cluster import ClusterError
from controller.kinds import AIMODEL, DEPLOYMENT, EVENT, POD, SCALED_OBJECT, Kind
from controller.manifests.naming import labels
from controller.removal import DRAIN_EXTRA_S, LOOK_AGAIN_S, Removal

GRACE_S = 10


class OneCluster:
    """Its objects by kind; ``written`` is all that was applied or deleted."""

    def __init__(self, **objects: Any) -> None:
        self.objects = objects
        self.written: list[tuple[str, Any]] = []
        self.lists = True
        self.steps: list[Any] = []
        """Of the last patch."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        return self.objects.get(kind.name)

    async def all(self, kind: Kind, namespace: str = "", labels: Any = None) -> Any:
        if kind is AIMODEL and not self.lists:
            raise ClusterError(403, "You may not list aimodels.")
        return self.objects.get(f"{kind.name}s", [])

    async def apply(self, kind: Kind, manifest: Any, *, manager: str, subresource: str = "") -> Any:
        if kind is not EVENT:
            self.written.append((kind.name, manifest.get("status") or manifest["spec"]))

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.written.append(("deleted", kind.name))

    async def patch(self, kind: Kind, namespace: str, name: str, steps: Any, subresource: str = "") -> None:
        self.written.append(("released", name))
        self.steps = steps

    def told(self) -> Any:
        """The status that was written last."""
        return [what for kind, what in self.written if kind == AIMODEL.name][-1]


class OneBroker:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def delete(self, model: str) -> None:
        self.deleted.append(model)


def resource(**status: Any) -> dict[str, Any]:
    spec = {"type": "static", "model": "m", "gracePeriodSeconds": GRACE_S, "topicDeletion": "Delete"}
    metadata = {
        "name": "m",
        "namespace": "ns",
        "uid": "u",
        "finalizers": [FINALIZER],
        "deletionTimestamp": "2020-01-01T00:00:00Z",
    }
    return {"metadata": metadata, "spec": spec, "status": status}


def of(model: AIModel, **rest: Any) -> dict[str, Any]:
    return {"metadata": {"labels": labels(model)}, **rest}


def at_work(model: AIModel) -> dict[str, Any]:
    """Two nodes that have not left yet."""
    deployment = of(model, spec={"replicas": 2}, status={"replicas": 2, "readyReplicas": 1})
    pods = [{"metadata": {"name": name}, "status": {"phase": "Running"}} for name in "ab"]
    return {DEPLOYMENT.name: deployment, f"{POD.name}s": pods, SCALED_OBJECT.name: of(model)}


async def test_nodes_have_their_time_from_when_they_were_told_however_long_ago_the_deletion_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = resource()
    model, broker, now = read(seen), OneBroker(), [1000.0]
    cluster = OneCluster(**at_work(model))
    removal = Removal(cluster, broker, lambda: now[0])  # type: ignore[arg-type]
    assert await removal.look(model, seen) == LOOK_AGAIN_S
    assert [what for kind, what in cluster.written if kind == DEPLOYMENT.name] == [{"replicas": 0}]
    assert ("deleted", SCALED_OBJECT.name) in cluster.written
    now[0] += GRACE_S + DRAIN_EXTRA_S - 0.1
    assert await removal.look(model, seen) == LOOK_AGAIN_S
    assert not broker.deleted
    assert "drain_overdue" not in caplog.text
    now[0] += 0.1
    assert await removal.look(model, seen) is None
    assert broker.deleted == ["m"]
    assert cluster.written[-1] == ("released", "m")
    assert 'action="drain_overdue"' in caplog.text


@pytest.mark.parametrize("counted", [0, 1])
async def test_a_node_that_leaves_is_waited_for_by_its_pod_or_before_it_has_one(counted: int) -> None:
    """A Deployment does not count Pods that are told to leave, and its Pods may not be there yet."""
    seen = resource()
    model, broker = read(seen), OneBroker()
    deployment = of(model, spec={"replicas": 0}, status={"replicas": counted})
    pods = [] if counted else [{"metadata": {"name": "a"}, "status": {"phase": "Running"}}]
    cluster = OneCluster(Deployment=deployment, Pods=pods)
    removal = Removal(cluster, broker)  # type: ignore[arg-type]
    assert await removal.look(model, seen) == LOOK_AGAIN_S
    assert not broker.deleted
    assert [kind for kind, _ in cluster.written] == [AIMODEL.name], "it is told to leave once"


async def test_an_evicted_pod_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    seen = resource()
    pods = [{"metadata": {"name": "a"}, "status": {"phase": "Failed", "reason": "Evicted"}}]
    assert await Removal(OneCluster(Pods=pods), OneBroker()).look(read(seen), seen) is None  # type: ignore[arg-type]
    assert "drain_overdue" not in caplog.text


async def test_of_several_finalizers_only_the_controllers_own_is_taken_away() -> None:
    seen = resource()
    seen["metadata"]["finalizers"] = ["example.com/backup", FINALIZER]
    cluster, broker = OneCluster(), OneBroker()
    assert await Removal(cluster, broker).look(read(seen), seen) is None  # type: ignore[arg-type]
    path = "/metadata/finalizers/1"
    # Where the list has changed meanwhile, the test fails, and nothing is taken away.
    assert cluster.steps == [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]


async def test_an_aimodel_that_somebody_else_holds_is_left_to_them() -> None:
    seen = resource()
    seen["metadata"]["finalizers"] = ["example.com/backup"]
    model, broker = read(seen), OneBroker()
    cluster = OneCluster(**at_work(model))
    assert await Removal(cluster, broker).look(model, seen) is None  # type: ignore[arg-type]
    assert (cluster.written, broker.deleted) == ([], [])


async def test_while_nodes_finish_the_rest_of_the_status_stays() -> None:
    known = {"waitingRequests": 7, "selector": "a=b", "lastError": "It was.", "desiredNodes": 2, "readyNodes": 2}
    topic = {"type": "TopicReady", "status": "True", "reason": "Made", "message": "", "lastTransitionTime": "t"}
    seen = resource(**known, conditions=[topic])
    model = read(seen)
    cluster = OneCluster(**at_work(model))
    await Removal(cluster, OneBroker()).look(model, seen)  # type: ignore[arg-type]
    told = cluster.told()
    assert told.items() >= (known | {"desiredNodes": 0, "readyNodes": 1, "replicas": 2}).items()
    assert [(each["type"], each["reason"]) for each in told["conditions"]] == [
        ("TopicReady", "Made"),
        ("Ready", "Draining"),
    ]


async def test_somebody_elses_objects_of_the_same_name_are_left_alone() -> None:
    seen = resource()
    model = read(seen)
    theirs = {"metadata": {"labels": {"app": "web"}}, "spec": {"replicas": 3}, "status": {"replicas": 3}}
    cluster = OneCluster(Deployment=theirs, ScaledObject=theirs)
    assert await Removal(cluster, OneBroker()).look(model, seen) is None  # type: ignore[arg-type]
    assert cluster.written == [("released", "m")]


@pytest.mark.parametrize(
    ("asked", "other", "deleted"),
    [("Delete", "another", ["m"]), ("Delete", "m", []), ("Retain", "another", [])],
)
async def test_a_queue_goes_if_its_end_is_asked_for_and_no_other_aimodel_has_it(
    asked: str, other: str, deleted: list[str]
) -> None:
    seen = resource()
    seen["spec"]["topicDeletion"] = asked
    broker = OneBroker()
    cluster = OneCluster(AIModels=[seen, {"metadata": {"uid": "v"}, "spec": {"model": other}}])
    assert await Removal(cluster, broker).look(read(seen), seen) is None  # type: ignore[arg-type]
    assert broker.deleted == deleted


async def test_who_may_not_look_for_others_with_the_queue_says_so_and_keeps_it() -> None:
    seen = resource()
    model, broker = read(seen), OneBroker()
    cluster = OneCluster()
    cluster.lists = False
    assert await Removal(cluster, broker).look(model, seen) == LOOK_AGAIN_S  # type: ignore[arg-type]
    (told,) = cluster.told()["conditions"]
    assert told["reason"] == "DeletingTopics"
    assert "You may not list aimodels. To keep them, set spec.topicDeletion to Retain." in told["message"]
    assert not broker.deleted


async def test_of_two_with_one_queue_that_go_at_once_the_last_one_takes_it_along() -> None:
    class Two(OneCluster):
        async def all(self, kind: Kind, namespace: str = "", labels: Any = None) -> Any:
            found = list(self.objects.get(f"{kind.name}s", []))
            await asyncio.sleep(0)  # the other one looks too
            return found

        async def patch(self, kind: Kind, namespace: str, name: str, steps: Any, subresource: str = "") -> None:
            self.objects["AIModels"] = [each for each in self.objects["AIModels"] if each["metadata"]["name"] != name]

    seen = [resource(), resource()]
    for each, name in zip(seen, "ab", strict=True):
        each["metadata"] |= {"name": name, "uid": name}
    broker = OneBroker()
    removal = Removal(Two(AIModels=seen), broker)  # type: ignore[arg-type]
    assert await asyncio.gather(*(removal.look(read(each), each) for each in seen)) == [None, None]
    assert broker.deleted == ["m"]
