"""One look after the other at one AIModel, at a cluster that is a dictionary."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.aimodel import FINALIZER, AIModel, read
from controller.broker_admin import BrokerAdminError
from controller.cluster import ClusterError
from controller.kinds import AIMODEL, EVENT, POD, Kind
from controller.manifests.naming import labels
from controller.reconciler import NotYet, Reconciler
from controller.settings import ControllerSettings
from process.settings import load

KEY = ("ns", "m")
SETTINGS = load(ControllerSettings, {"PULSAR_ADMIN_URL": "http://pulsar.workernode:8080", "RESYNC_S": "7"})


class OneCluster:
    """Keeps what is applied, by kind; ``refuses`` is raised for objects of these kinds."""

    def __init__(self, **status: Any) -> None:
        metadata = {"name": "m", "namespace": "ns", "uid": "u", "generation": 1, "finalizers": [FINALIZER]}
        spec = {"type": "static", "model": "m", "maxReplicas": 3}
        self.objects: dict[str, Any] = {AIMODEL.name: {"metadata": metadata, "spec": spec, "status": status}}
        self.pods: list[Any] = []
        self.keda = True
        self.refuses: dict[str, ClusterError] = {}
        self.deleted: list[str] = []
        self.patched: list[Any] = []
        self.events: list[Any] = []
        """As they were written, one after the other."""
        self.told = 0
        """How often the status was written."""

    @property
    def model(self) -> AIModel:
        return read(self.objects[AIMODEL.name])

    @property
    def status(self) -> Any:
        return self.objects[AIMODEL.name]["status"]

    def condition(self, kind: str) -> tuple[str, str]:
        """Truth and reason."""
        return next((each["status"], each["reason"]) for each in self.status["conditions"] if each["type"] == kind)

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        if kind == EVENT:
            return next((each for each in reversed(self.events) if each["metadata"]["name"] == name), None)
        return copy.deepcopy(self.objects.get(kind.name))

    async def all(self, kind: Kind, namespace: str = "", labels: Any = None) -> Any:
        return self.pods if kind == POD else []

    async def knows(self, kind: Kind, namespace: str) -> bool:
        return self.keda and kind.name != "PodMonitor"

    async def apply(self, kind: Kind, manifest: Any, *, manager: str, subresource: str = "") -> Any:
        if kind.name in self.refuses:
            raise self.refuses[kind.name]
        if kind == EVENT:
            self.events.append(manifest)
        elif subresource:
            self.told += 1
            self.objects[kind.name]["status"] = {**manifest["status"], "nodes": self.status.get("nodes", [])}
        else:
            before = self.objects.get(kind.name, {})
            spec = before.get("spec", {}) | manifest.get("spec", {})
            self.objects[kind.name] = before | manifest | {"spec": spec}

    async def patch(self, kind: Kind, namespace: str, name: str, steps: Any, *, subresource: str = "") -> None:
        self.patched.append(steps)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.deleted.append(kind.name)


class OneBroker:
    """Has a queue of three, once it is made."""

    def __init__(self) -> None:
        self.made = 0
        self.away = False
        self.missing = False
        """Whether somebody has deleted it."""

    async def backlog(self, model: str) -> int | None:
        if self.away:
            raise BrokerAdminError("It is away.")
        return 3 if self.made and not self.missing else None

    async def ensure(self, model: str) -> None:
        self.made += 1


def pod(name: str, *, ready: bool = True, **status: Any) -> dict[str, Any]:
    told = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}], **status}
    return {"metadata": {"name": name}, "status": told}


def counted(cluster: OneCluster, desired: int, ready: int, *, ours: bool = True) -> dict[str, Any]:
    """A Deployment and how many nodes it has."""
    metadata = {"labels": labels(cluster.model) if ours else {}}
    return {
        "metadata": metadata,
        "spec": {"replicas": desired},
        "status": {"replicas": desired, "readyReplicas": ready},
    }


def looking(cluster: OneCluster, broker: OneBroker) -> Reconciler:
    return Reconciler(cluster, broker, SETTINGS)  # type: ignore[arg-type]


async def test_while_the_broker_is_away_all_else_is_put_right_again_and_again() -> None:
    cluster, broker = OneCluster(), OneBroker()
    reconciler = looking(cluster, broker)
    for _ in range(2):
        assert await reconciler.look(KEY) == SETTINGS.resync_s
    assert (broker.made, cluster.status["waitingRequests"]) == (1, 3)
    broker.away = True
    for _ in range(3):
        del cluster.objects["Role"]
        assert await reconciler.look(KEY) == SETTINGS.resync_s
        assert "Role" in cluster.objects
        assert cluster.condition("TopicReady") == ("Unknown", "BrokerAway")
        assert cluster.status["waitingRequests"] == 3, "the last that was known"
    broker.away = False
    await reconciler.look(KEY)
    assert cluster.condition("Degraded") == ("False", "Well")
    assert cluster.status["lastError"] == "It is away."


async def test_a_queue_that_a_first_request_made_gets_what_it_lacks() -> None:
    """Its dead letters, and what nodes may do with both."""
    cluster, broker = OneCluster(), OneBroker()
    broker.made = 1
    for _ in range(2):
        await looking(cluster, broker).look(KEY)
        assert broker.made == 2


async def test_without_a_queue_there_is_nothing_and_it_is_tried_again_soon() -> None:
    cluster, broker = OneCluster(), OneBroker()
    broker.away = True
    for _ in range(2):
        with pytest.raises(NotYet):
            await looking(cluster, broker).look(KEY)
        assert cluster.objects.keys() == {AIMODEL.name}
    assert cluster.condition("Ready") == ("False", "WaitingForTopics")
    assert "waitingRequests" not in cluster.status, "nobody knows how many"


async def test_a_condition_that_stays_keeps_its_time_while_another_one_changes() -> None:
    cluster = OneCluster()
    await looking(cluster, OneBroker()).look(KEY)
    for each in cluster.status["conditions"]:
        each["lastTransitionTime"] = "2030-01-01T00:00:00Z"
    cluster.refuses["Deployment"] = ClusterError(422, "No.")
    with pytest.raises(NotYet):
        await looking(cluster, OneBroker()).look(KEY)
    times = {each["type"]: each["lastTransitionTime"] for each in cluster.status["conditions"]}
    assert times.pop("Degraded") != "2030-01-01T00:00:00Z"
    assert set(times.values()) == {"2030-01-01T00:00:00Z"}


@pytest.mark.parametrize("status", [400, 403, 422, 500])
async def test_an_object_that_is_refused_is_told_and_tried_again_soon(status: int) -> None:
    cluster = OneCluster()
    cluster.refuses["Deployment"] = ClusterError(status, "No.")
    with pytest.raises(NotYet):
        await looking(cluster, OneBroker()).look(KEY)
    assert cluster.condition("Degraded") == ("True", "NotApplied")


@pytest.mark.parametrize("status", [0, 409, 429, 503])
async def test_an_api_server_that_has_no_time_is_no_trouble_of_the_model(status: int) -> None:
    cluster = OneCluster()
    cluster.refuses["Deployment"] = ClusterError(status, "Not now.")
    with pytest.raises(ClusterError):
        await looking(cluster, OneBroker()).look(KEY)
    assert "conditions" not in cluster.status


async def test_entries_of_nodes_that_are_gone_are_taken_out_from_the_end_and_only_if_they_are_still_there() -> None:
    cluster = OneCluster(nodes=[{"name": name, "state": "Ready"} for name in ("a", "b", "c")])
    cluster.pods = [{"metadata": {"name": "b"}, "status": {"phase": "Running"}}]
    await looking(cluster, OneBroker()).look(KEY)
    assert cluster.patched == [
        [
            {"op": "test", "path": f"/status/nodes/{place}/name", "value": name},
            {"op": "remove", "path": f"/status/nodes/{place}"},
        ]
        for place, name in ((2, "c"), (0, "a"))
    ]


@pytest.mark.parametrize(("works", "most"), [(True, 3), (False, 2)])
async def test_nodes_that_share_a_trouble_are_not_made_more_unless_another_one_works(*, works: bool, most: int) -> None:
    """One that was killed has left the word that it is ready."""
    entries = [{"name": "a", "state": "RateLimited"}, {"name": "b", "state": "Ready"}]
    cluster = OneCluster(nodes=entries)
    cluster.pods = [pod("a"), pod("b", ready=works)]
    cluster.objects["Deployment"] = counted(cluster, desired=2, ready=1)
    await looking(cluster, OneBroker()).look(KEY)
    assert cluster.objects["ScaledObject"]["spec"]["maxReplicaCount"] == most


async def test_a_pod_that_was_evicted_is_told_of_and_its_entry_goes() -> None:
    cluster = OneCluster(nodes=[{"name": "a", "state": "RateLimited"}])
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.pods = [pod("a", phase="Failed", reason="Evicted", message="Low on memory.", startTime=now)]
    cluster.objects["Deployment"] = counted(cluster, desired=1, ready=0)
    await looking(cluster, OneBroker()).look(KEY)
    assert [steps[0]["value"] for steps in cluster.patched] == ["a"]
    degraded = next(each for each in cluster.status["conditions"] if each["type"] == "Degraded")
    assert (degraded["reason"], degraded["message"]) == ("NodesNotStarted", "a: Evicted: Low on memory.")


@pytest.mark.parametrize(
    ("keda", "there", "replicas"), [(True, None, 1), (True, 3, 3), (False, None, 2), (False, 3, 2)]
)
async def test_the_number_of_nodes_is_kedas_once_there_is_a_deployment(
    *, keda: bool, there: int | None, replicas: int
) -> None:
    cluster = OneCluster()
    cluster.keda = keda
    cluster.objects[AIMODEL.name]["spec"] |= {"minReplicas": 1, "replicas": 2}
    if there is not None:
        cluster.objects["Deployment"] = counted(cluster, there, there)
    await looking(cluster, OneBroker()).look(KEY)
    assert cluster.objects["Deployment"]["spec"]["replicas"] == replicas
    assert ("ScaledObject" in cluster.objects) == keda


async def test_somebody_elses_deployment_of_the_same_name_has_no_nodes_of_the_model() -> None:
    cluster = OneCluster()
    cluster.objects["Deployment"] = counted(cluster, 2, 2, ours=False)
    cluster.refuses["Deployment"] = ClusterError(422, "Its selector cannot be changed.")
    with pytest.raises(NotYet):
        await looking(cluster, OneBroker()).look(KEY)
    assert (cluster.status["desiredNodes"], cluster.status["readyNodes"]) == (0, 0)


async def test_an_entry_without_a_name_is_nobodys() -> None:
    cluster = OneCluster(nodes=[{"state": "RateLimited"}])
    cluster.pods = [{"metadata": {"name": "b"}, "status": {"phase": "Running"}}]
    assert await looking(cluster, OneBroker()).look(KEY) == SETTINGS.resync_s
    assert cluster.condition("Degraded") == ("False", "Well")


@pytest.mark.parametrize(("ours", "deleted"), [(True, ["TriggerAuthentication"]), (False, [])])
async def test_what_a_model_does_not_need_any_more_is_deleted_if_it_is_the_models(
    *, ours: bool, deleted: list[str]
) -> None:
    cluster = OneCluster()
    cluster.objects["TriggerAuthentication"] = {"metadata": {"labels": labels(cluster.model) if ours else {}}}
    await looking(cluster, OneBroker()).look(KEY)
    assert cluster.deleted == deleted


async def test_a_new_aimodel_is_held_before_anything_is_made_for_it() -> None:
    cluster = OneCluster()
    cluster.objects[AIMODEL.name]["metadata"]["finalizers"] = ["example.com/backup"]
    cluster.refuses["AIModel"] = ClusterError(0, "Not now.")
    broker = OneBroker()
    with pytest.raises(ClusterError):
        await looking(cluster, broker).look(KEY)
    assert (broker.made, list(cluster.objects)) == (0, [AIMODEL.name])


async def test_what_is_new_is_written_and_told_as_an_event_once() -> None:
    cluster, broker = OneCluster(), OneBroker()
    reconciler = looking(cluster, broker)
    for _ in range(2):
        await reconciler.look(KEY)
    cluster.events.clear()
    cluster.told = 0
    await reconciler.look(KEY)
    assert (cluster.told, cluster.events) == (0, [])
    broker.away = True
    for _ in range(2):
        await reconciler.look(KEY)
    assert cluster.told == 1
    assert [(each["type"], each["reason"]) for each in cluster.events] == [
        ("Normal", "BrokerAway"),
        ("Warning", "BrokerAway"),
    ]
    assert {each["involvedObject"]["uid"] for each in cluster.events} == {"u"}


async def test_what_happens_again_and_again_is_one_event_with_its_number() -> None:
    cluster, broker = OneCluster(), OneBroker()
    reconciler = looking(cluster, broker)
    for _ in range(10):
        for broker.away in (False, True):
            await reconciler.look(KEY)
    last = {each["metadata"]["name"]: each for each in cluster.events}
    assert sorted((each["reason"], each["count"]) for each in last.values() if each["reason"] != "ScaledToZero") == [
        ("BrokerAway", 10),
        ("BrokerAway", 10),
        ("Made", 10),
        ("WaitingForKEDA", 1),
        ("WaitingForKEDA", 1),
        ("Well", 10),
    ]
    first = {each["metadata"]["name"]: each for each in reversed(cluster.events)}
    assert {name: each["firstTimestamp"] for name, each in first.items()} == {
        name: each["firstTimestamp"] for name, each in last.items()
    }


async def test_an_event_is_no_longer_than_kubernetes_takes_and_may_fail() -> None:
    cluster = OneCluster()
    cluster.refuses["Deployment"] = ClusterError(422, "No. " * 1000)
    with pytest.raises(NotYet):
        await looking(cluster, OneBroker()).look(KEY)
    assert max(len(each["message"]) for each in cluster.events) == 1024
    cluster = OneCluster()
    cluster.refuses["Event"] = ClusterError(403, "You may make no events.")
    assert await looking(cluster, OneBroker()).look(KEY) == SETTINGS.resync_s
    assert cluster.condition("TopicReady") == ("True", "Made")


async def test_of_an_aimodel_that_cannot_be_read_everything_stays_as_it_is() -> None:
    cluster, broker = OneCluster(), OneBroker()
    await looking(cluster, broker).look(KEY)
    before = copy.deepcopy(cluster.objects["Deployment"])
    cluster.objects[AIMODEL.name]["spec"] = {"type": "remote", "model": "m"}
    assert await looking(cluster, broker).look(KEY) == SETTINGS.resync_s
    assert (broker.made, cluster.objects["Deployment"]) == (1, before)
    assert cluster.condition("Ready") == ("False", "Unreadable")
    assert cluster.condition("TopicReady") == ("True", "Made")
    assert cluster.status["lastError"] == "AIModel m: type remote and spec.remote belong together"


async def test_an_aimodel_that_is_gone_is_not_looked_at_again() -> None:
    cluster = OneCluster()
    del cluster.objects[AIMODEL.name]
    assert await looking(cluster, OneBroker()).look(KEY) is None


async def test_a_queue_that_somebody_deletes_is_made_again() -> None:
    cluster, broker = OneCluster(), OneBroker()
    await looking(cluster, broker).look(KEY)
    broker.missing = True
    for made in (2, 3):
        await looking(cluster, broker).look(KEY)
        assert broker.made == made
