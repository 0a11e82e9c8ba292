"""The controller against a real API server and a real Pulsar."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from kubernetes.aio.config import incluster_config

from controller import role
from controller.aimodel import read
from controller.cluster import Cluster, ClusterError
from controller.kinds import AIMODEL, DEPLOYMENT, POD_MONITOR, Kind
from controller.manifests import Place, render
from controller.manifests.naming import MANAGER
from controller.replicas import hand_over
from controller.settings import ControllerSettings
from process.lifecycle import GivenUp
from process.settings import load
from tests.in_process import free_port
from tests.kube.conftest import bind_controller
from tests.kube.controlled import Controlled
from tests.kube.models import STATIC, resource
from tests.kube.stand_in import StandIn
from tests.waiting import until
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kube.api_server import ApiServer
    from tests.pulsar_server import PulsarServer

pytestmark = [pytest.mark.kube, pytest.mark.pulsar]

SECRET = Kind("Secret", "v1", "secrets")
MADE = ("ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "PodDisruptionBudget", "Deployment", "ScaledObject")


@pytest.fixture
async def cluster(api_server: ApiServer, namespace: str, pulsar_server: PulsarServer) -> AsyncIterator[Controlled]:
    """A namespace whose controllers end with the test."""
    async with Controlled(api_server, namespace, pulsar_server) as controlled:
        yield controlled


@pytest.fixture
def spec() -> dict[str, Any]:
    """Of a model that no other test has."""
    return STATIC | {"model": f"model-{uuid.uuid4().hex[:8]}", "maxReplicas": 3}


async def stats(server: PulsarServer, topic: str) -> Any:
    """What the broker tells of a topic; None if it has none."""
    url = f"{server.admin_url}/admin/v2/{topic.replace('://', '/')}/stats"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json() if answer.status == 200 else None


async def test_a_declared_model_gets_its_queue_and_its_objects(
    cluster: Controlled, spec: dict[str, Any], pulsar_server: PulsarServer
) -> None:
    cluster.start()
    await cluster.declare("model", spec)
    message = await cluster.becomes("model", "ScaledToZero")
    assert message == "No node runs; the first request has one started."
    uid = (await cluster.model("model"))["metadata"]["uid"]
    for kind in MADE:
        owner = (await cluster.exists(kind, "model"))["metadata"]["ownerReferences"]
        assert [(each["uid"], each["controller"]) for each in owner] == [(uid, True)], kind
    queue = await stats(pulsar_server, Topics().requests(spec["model"]))
    assert set(queue["subscriptions"]) == {"workers"}
    dead = await stats(pulsar_server, Topics().dead_letters(spec["model"]))
    assert set(dead["subscriptions"]) == {"ledger"}
    deployment = await cluster.owned("Deployment", "model")
    assert deployment["spec"]["replicas"] == 0
    status = (await cluster.model("model"))["status"]
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Ready": "True",
        "TopicReady": "True",
        "ScalingActive": "True",
        "Degraded": "False",
    }
    assert status["observedGeneration"] == 1
    assert status["waitingRequests"] == 0
    events = (await cluster.ask("GET", cluster.path("Event")))["items"]
    assert ("Normal", "ScaledToZero", message) in [(each["type"], each["reason"], each["message"]) for each in events]


async def test_a_model_may_be_called_and_answer_by_any_characters(cluster: Controlled, spec: dict[str, Any]) -> None:
    name, answer = f"{spec['model']}/\u6a21\u578b \U0001f600", "\U0001f44b \\ \u2028 \x7f"
    cluster.start()
    await cluster.declare("model", spec | {"model": name}, static={"answer": answer})
    await cluster.becomes("model", "ScaledToZero")
    assert name in (await cluster.condition("model", "TopicReady"))[2]
    container = (await cluster.owned("Deployment", "model"))["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert (env["MODEL_NAME"], env["STATIC_ANSWER"]) == (name, answer)


async def test_a_change_of_the_spec_reaches_the_nodes(cluster: Controlled, spec: dict[str, Any]) -> None:
    cluster.start()
    await cluster.declare("model", spec)
    await cluster.becomes("model", "ScaledToZero")
    await cluster.change("model", slots=5, waitingPerSlot=2, env=[{"name": "DEBUG", "value": "true"}])

    async def threshold() -> bool:
        found = await cluster.owned("ScaledObject", "model")
        return bool(found["spec"]["triggers"][0]["metadata"]["msgBacklogThreshold"] == "15")

    await until(threshold)
    container = (await cluster.owned("Deployment", "model"))["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert env["MAX_PROCESS_NUM"] == "5"
    assert env["DEBUG"] == "true"
    await cluster.change("model", env=[])

    async def is_gone() -> bool:
        found = await cluster.owned("Deployment", "model")
        return "DEBUG" not in str(found["spec"]["template"])

    await until(is_gone)


async def test_what_others_change_or_delete_is_put_right(cluster: Controlled, spec: dict[str, Any]) -> None:
    cluster.start(RESYNC_S="3600")  # so that it is heard of, and not come upon
    await cluster.declare("model", spec)
    await cluster.becomes("model", "ScaledToZero")
    budget, deployment = (f"{cluster.path(kind)}/aimodel-model" for kind in ("PodDisruptionBudget", "Deployment"))

    async def is_right() -> bool:
        template = (await cluster.ask("GET", deployment))["spec"]["template"]["spec"]
        return bool(
            (await cluster.ask("GET", budget))["spec"]["maxUnavailable"] == 1
            and template["terminationGracePeriodSeconds"] == 600
            and await cluster.owned("Role", "model")
            and await cluster.owned("ScaledObject", "model")
        )

    # Several times: looks that the declaration was the reason for might repair the first damage.
    for _ in range(3):
        await cluster.ask("PATCH", budget, {"spec": {"maxUnavailable": 3}})
        await cluster.ask("PATCH", deployment, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}})
        await cluster.ask("DELETE", f"{cluster.path('Role')}/aimodel-model")
        await cluster.ask("DELETE", f"{cluster.path('ScaledObject')}/aimodel-model")
        await until(is_right)


async def test_a_queue_that_somebody_deletes_is_made_again(
    cluster: Controlled, spec: dict[str, Any], pulsar_server: PulsarServer
) -> None:
    cluster.start()
    await cluster.declare("model", spec)
    await cluster.becomes("model", "ScaledToZero")
    topic = Topics().requests(spec["model"])
    url = f"{pulsar_server.admin_url}/admin/v2/{topic.replace('://', '/')}?force=true"
    async with aiohttp.ClientSession() as session, session.delete(url) as answer:
        assert answer.status == 204

    async def is_back() -> bool:
        found = await stats(pulsar_server, topic)
        return found is not None and set(found["subscriptions"]) == {"workers"}

    await until(is_back)


async def test_a_model_at_rest_is_looked_at_and_not_written(cluster: Controlled, spec: dict[str, Any]) -> None:
    port = free_port()
    cluster.start(CONTROLLER_PORT=str(port), RESYNC_S="0.1")
    await cluster.declare("model", spec)
    await cluster.becomes("model", "ScaledToZero")

    async def looks() -> float:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            found = re.search(r'^workernode_controller_looks_total{result="done"} (.+)$', await answer.text(), re.M)
            return float(found[1]) if found else 0.0

    async def versions() -> list[str]:
        owned = [await cluster.owned(kind, "model") for kind in MADE]
        return [each["metadata"]["resourceVersion"] for each in [await cluster.model("model"), *owned]]

    async def are_more(than: float) -> bool:
        return await looks() >= than + 3

    settled = await looks()
    await until(lambda: are_more(settled))
    before, seen = await versions(), await looks()
    await until(lambda: are_more(seen))
    assert await versions() == before


async def test_in_a_pod_the_controller_comes_as_its_service_account(
    api_server: ApiServer, controller_token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(controller_token)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(api_server.authority))
    address = urlsplit(api_server.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    cluster = await Cluster.connect(None)
    try:
        assert await cluster.knows(AIMODEL, "workernode")
        assert not await cluster.knows(POD_MONITOR, "workernode")
        assert isinstance(await cluster.all(AIMODEL), list)
        with pytest.raises(ClusterError, match="workernode:workernode-controller") as refused:
            await cluster.all(SECRET)
        assert refused.value.status == 403
    finally:
        await cluster.aclose()


@pytest.mark.parametrize("kubeconfig", ["", "/nowhere/at/all"])
async def test_without_a_cluster_the_controller_says_so_and_ends(kubeconfig: str, pulsar_server: PulsarServer) -> None:
    environ = {"PULSAR_URL": pulsar_server.url, "PULSAR_ADMIN_URL": pulsar_server.admin_url, "CONTROLLER_PORT": "0"}
    settings = load(ControllerSettings, environ | {"KUBECONFIG": kubeconfig})
    with pytest.raises(GivenUp, match="There is no way to a cluster"):
        await role.run(settings, asyncio.Event())


async def test_the_number_of_nodes_is_kedas_alone(cluster: Controlled, spec: dict[str, Any]) -> None:
    cluster.start()
    await cluster.declare("model", spec)
    await cluster.becomes("model", "ScaledToZero")
    scale = f"{cluster.path('Deployment')}/aimodel-model/scale"
    await cluster.ask("PATCH", scale, {"spec": {"replicas": 2}})
    await cluster.change("model", slots=7)

    async def is_seen() -> bool:
        return bool((await cluster.model("model"))["status"]["observedGeneration"] == 2)

    await until(is_seen)
    await cluster.becomes("model", "WaitingForNodes")
    deployment = await cluster.owned("Deployment", "model")
    assert deployment["spec"]["replicas"] == 2
    for entry in deployment["metadata"]["managedFields"]:
        if entry["manager"] == "workernode-controller":
            assert "f:replicas" not in entry["fieldsV1"]["f:spec"]


async def test_a_deployment_whose_labels_somebody_changes_keeps_its_number_of_nodes(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    cluster.start()
    await cluster.declare("model", spec)
    await cluster.becomes("model", "ScaledToZero")
    deployment, label = f"{cluster.path('Deployment')}/aimodel-model", "app.kubernetes.io/managed-by"
    await cluster.ask("PATCH", f"{deployment}/scale", {"spec": {"replicas": 2}})
    await cluster.becomes("model", "WaitingForNodes")

    async def is_right() -> bool:
        return bool((await cluster.ask("GET", deployment))["metadata"]["labels"][label] == MANAGER)

    # Several times: a look that the number was the reason for might repair the first one.
    for _ in range(3):
        await cluster.ask("PATCH", deployment, {"metadata": {"labels": {label: "Helm"}}})
        await until(is_right)
        assert (await cluster.ask("GET", deployment))["spec"]["replicas"] == 2


async def test_a_number_that_keda_writes_while_the_controller_lets_go_of_it_stays(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    api = await Cluster.connect(Path(cluster.environ["KUBECONFIG"]))
    try:
        model = read(resource("model", spec) | {"metadata": {"name": "model", "namespace": cluster.namespace}})
        place = Place.of(load(ControllerSettings, cluster.environ), keda=False, pod_monitors=False)
        manifest = next(each for each in render(model, place) if each["kind"] == "Deployment")
        seen = await api.apply(DEPLOYMENT, manifest, manager=MANAGER)
        scale = f"{cluster.path('Deployment')}/aimodel-model/scale"
        await cluster.ask("PATCH", scale, {"spec": {"replicas": 2}})
        with pytest.raises(ClusterError) as refused:
            await hand_over(api, model, seen)
        assert refused.value.status == 409
        assert (await cluster.owned("Deployment", "model"))["spec"]["replicas"] == 2
    finally:
        await api.aclose()


async def test_deleting_a_model_drains_its_nodes_first_and_keeps_its_queue(
    cluster: Controlled, spec: dict[str, Any], pulsar_server: PulsarServer
) -> None:
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=2)
        await cluster.becomes("model", "Serving")
        assert (await cluster.model("model"))["status"]["readyNodes"] == 2
    # Nobody ends Pods now.
    await cluster.delete("model")
    assert await cluster.becomes("model", "Draining") == "Waiting for 2 nodes to finish and leave."
    assert (await cluster.owned("Deployment", "model"))["spec"]["replicas"] == 0
    assert await cluster.owned("ScaledObject", "model") is None
    async with StandIn(cluster.server, cluster.namespace):
        await until(lambda: _is_gone(cluster, "model"))
    assert await stats(pulsar_server, Topics().requests(spec["model"])) is not None


async def test_topics_are_deleted_only_when_asked_and_when_nobody_else_has_them(
    cluster: Controlled, spec: dict[str, Any], pulsar_server: PulsarServer
) -> None:
    cluster.start(RESYNC_S="3600")  # or the topic would be made again for the other one
    topic = Topics().requests(spec["model"])
    for name in ("one", "two"):
        await cluster.declare(name, spec, topicDeletion="Delete")
        await cluster.becomes(name, "ScaledToZero")
    await cluster.delete("one")
    await until(lambda: _is_gone(cluster, "one"))
    assert await stats(pulsar_server, topic) is not None
    await cluster.delete("two")
    await until(lambda: _is_gone(cluster, "two"))
    assert await stats(pulsar_server, topic) is None


async def _is_gone(cluster: Controlled, name: str) -> bool:
    return await cluster.model(name) is None


async def test_no_node_is_made_before_its_queue_and_people_are_told_why(
    cluster: Controlled, spec: dict[str, Any], pulsar_server: PulsarServer
) -> None:
    cluster.start(PULSAR_ADMIN_URL="http://127.0.0.1:9")
    await cluster.declare("model", spec)
    message = await cluster.becomes("model", "WaitingForTopics")
    assert "The broker's admin interface cannot be reached" in message
    assert (await cluster.condition("model", "TopicReady"))[:2] == ("False", "NotMade")
    assert await cluster.owned("Deployment", "model") is None
    await cluster.stop()
    cluster.start()
    await cluster.becomes("model", "ScaledToZero")


async def test_a_namespace_that_is_made_after_the_aimodel_is_found_soon_and_waiting_is_no_warning(
    cluster: Controlled, spec: dict[str, Any], pulsar_server: PulsarServer
) -> None:
    namespace = f"late-{uuid.uuid4().hex[:8]}"
    cluster.start(PULSAR_NAMESPACE_REQUESTS=namespace, RESYNC_S="3600")
    await cluster.declare("model", spec)
    await cluster.becomes("model", "WaitingForTopics")
    await cluster.becomes("model", "BrokerAway", "Degraded")
    async with aiohttp.ClientSession() as session:
        made = await session.put(f"{pulsar_server.admin_url}/admin/v2/namespaces/public/{namespace}", json={})
        assert made.status == 204
    await cluster.becomes("model", "ScaledToZero")
    events = (await cluster.ask("GET", cluster.path("Event")))["items"]
    assert {each["reason"] for each in events if each["type"] == "Warning"} == {"BrokerAway"}


async def test_a_controller_that_dies_in_the_middle_is_followed_by_one_that_goes_on(
    cluster: Controlled, spec: dict[str, Any], tmp_path: Path
) -> None:
    names = [f"model-{number}" for number in range(6)]
    for name in names:
        await cluster.declare(name, spec)
    cluster.start_process(tmp_path / "log")
    await cluster.exists("ServiceAccount", names[0], within_s=30)
    cluster.kill_process()
    unfinished = [name for name in names if await cluster.owned("ScaledObject", name) is None]
    assert unfinished, "it was too quick to be killed in the middle"
    cluster.start()
    for name in names:
        await cluster.becomes(name, "ScaledToZero")


async def test_of_two_controllers_one_works_and_the_other_takes_over(
    cluster: Controlled, spec: dict[str, Any], tmp_path: Path
) -> None:
    def lease() -> Any:
        return cluster.ask(
            "GET", f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases/workernode-controller"
        )

    cluster.start_process(tmp_path / "log")
    await cluster.declare("one", spec)
    await cluster.becomes("one", "ScaledToZero")
    first = (await lease())["spec"]["holderIdentity"]
    cluster.start()
    await cluster.declare("two", spec)
    await cluster.becomes("two", "ScaledToZero")
    shared = (await lease())["spec"]
    assert (shared["holderIdentity"], shared["leaseTransitions"]) == (first, 0)
    cluster.kill_process()
    await cluster.declare("three", spec)
    await cluster.becomes("three", "ScaledToZero")
    second = (await lease())["spec"]
    assert second["holderIdentity"] != first
    assert second["leaseTransitions"] == 1
    # One that is asked to stop hands the lead on at once: the next one need not wait for the Lease's end.
    await cluster.stop()
    assert (await lease())["spec"]["holderIdentity"] == ""


async def test_the_controllers_role_suffices_for_its_work(
    cluster: Controlled, spec: dict[str, Any], controller_token: str, pulsar_server: PulsarServer
) -> None:
    kubeconfig = cluster.server.kubeconfig(controller_token)
    alone = await Cluster.connect(kubeconfig)
    with pytest.raises(ClusterError) as refused:
        await alone.all(DEPLOYMENT, cluster.namespace)
    assert refused.value.status == 403, "another namespace than its own"
    await alone.aclose()
    bind_controller(cluster.server, cluster.namespace)
    cluster.start(KUBECONFIG=str(kubeconfig), LEASE_NAMESPACE="workernode", NODE_TOKEN_SECRET="t")
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=1, topicDeletion="Delete")
        await cluster.becomes("model", "Serving")
        for kind in (*MADE, "TriggerAuthentication"):
            assert await cluster.owned(kind, "model"), kind
        assert (await cluster.ask("GET", cluster.path("Event")))["items"]
        await cluster.delete("model")
        await until(lambda: _is_gone(cluster, "model"))
    assert await stats(pulsar_server, Topics().requests(spec["model"])) is None
