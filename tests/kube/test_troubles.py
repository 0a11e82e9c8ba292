"""What the controller makes of nodes in trouble, of a cluster without KEDA, and of an API server that goes away."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from controller.status import FIGURES
from tests.kube.api_server import ApiServer, Refused
from tests.kube.conftest import CRD, install, new_namespace
from tests.kube.controlled import Controlled
from tests.kube.models import BASE, REMOTE, STATIC
from tests.kube.stand_in import StandIn
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.pulsar_server import PulsarServer

pytestmark = [pytest.mark.kube, pytest.mark.pulsar]

APPLY = "application/apply-patch+yaml"


@pytest.fixture
async def cluster(api_server: ApiServer, namespace: str, pulsar_server: PulsarServer) -> AsyncIterator[Controlled]:
    """A namespace of a cluster with KEDA's resources."""
    async with Controlled(api_server, namespace, pulsar_server) as controlled:
        yield controlled


@pytest.fixture(scope="module")
def bare_server(api_server: ApiServer) -> Iterator[ApiServer]:
    """A cluster that does not know KEDA. It is only started where the shared one could be."""
    server = ApiServer()
    try:
        server.start()
        install(server, yaml.safe_load(CRD.read_text()))
        yield server
    finally:
        server.stop()


@pytest.fixture
async def bare_cluster(bare_server: ApiServer, pulsar_server: PulsarServer) -> AsyncIterator[Controlled]:
    async with Controlled(bare_server, new_namespace(bare_server), pulsar_server) as controlled:
        yield controlled


@pytest.fixture
def spec() -> dict[str, Any]:
    """Of a model that no other test has."""
    return STATIC | {"model": f"model-{uuid.uuid4().hex[:8]}", "maxReplicas": 5}


async def say(cluster: Controlled, name: str, pod: str, state: str, message: str, **more: str) -> None:
    """As the node in a Pod would."""
    head = {"apiVersion": "models.workernode.io/v1alpha1", "kind": "AIModel", "metadata": {"name": name}}
    said = head | {"status": {"nodes": [{"name": pod, "state": state, "message": message, **more}]}}
    path = f"{BASE}/{cluster.namespace}/aimodels/{name}/status?fieldManager={pod}&force=true"
    await cluster.ask("PATCH", path, said, APPLY)


async def pods(cluster: Controlled) -> list[str]:
    return [each["metadata"]["name"] for each in (await cluster.ask("GET", cluster.path("Pod")))["items"]]


async def test_a_model_whose_nodes_are_all_rate_limited_is_not_scaled_up_until_one_works(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    async def most() -> int:
        return int((await cluster.owned("ScaledObject", "model"))["spec"]["maxReplicaCount"])

    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=2)
        await cluster.becomes("model", "Serving")
        one, two = await pods(cluster)
        await say(cluster, "model", one, "RateLimited", "The provider refuses more.", until="2030-01-01T00:00:00Z")
        assert "The provider refuses more." in await cluster.becomes("model", "RateLimited", "Degraded")
        assert (await cluster.condition("model"))[:2] == ("True", "Serving")  # the other may well work
        assert await most() == 5
        await say(cluster, "model", two, "RateLimited", "The provider refuses more.", until="2030-01-01T00:00:00Z")
        told = await cluster.becomes("model", "RateLimited")
        assert told.endswith("The provider refuses more. Until 2030-01-01T00:00:00Z.")
        await until(lambda: _is(most, 2))
        scaling = await cluster.becomes("model", "RateLimited", "ScalingActive")
        assert "no more than 2 nodes until one works again" in scaling
        await say(cluster, "model", one, "Ready", "")
        await cluster.becomes("model", "Serving")
        await until(lambda: _is(most, 5))
        assert (await cluster.model("model"))["status"]["lastError"]


async def _is(ask: Any, wanted: object) -> bool:
    return bool(await ask() == wanted)


async def test_a_wrong_key_is_told_in_the_nodes_words_and_as_an_event(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    sentence = "The provider does not know the key. Write a valid key to API_KEY_FILE."
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=1)
        await cluster.becomes("model", "Serving")
        (pod,) = await pods(cluster)
        await say(cluster, "model", pod, "AuthenticationFailed", sentence)
        assert await cluster.becomes("model", "AuthenticationFailed") == f"No node works now. {pod}: {sentence}"

        async def warnings() -> list[int]:
            events = (await cluster.ask("GET", cluster.path("Event")))["items"]
            return [each["count"] for each in events if each["type"] == "Warning" and sentence in each["message"]]

        await until(lambda: _is(warnings, [1]))
        await say(cluster, "model", pod, "Ready", "")
        await cluster.becomes("model", "Serving")
        await say(cluster, "model", pod, "AuthenticationFailed", sentence)
        await until(lambda: _is(warnings, [2]))


async def test_the_entry_of_a_node_that_is_gone_without_a_word_is_taken_out(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=1)
        await cluster.becomes("model", "Serving")
        (pod,) = await pods(cluster)
        await say(cluster, "model", pod, "Ready", "")
        await say(cluster, "model", "dead", "RateLimited", "It cannot tell of its end.")

        async def names() -> list[str]:
            return [each["name"] for each in (await cluster.model("model"))["status"].get("nodes") or []]

        await until(lambda: _is(names, [pod]))


async def test_an_evicted_node_is_gone_although_its_pod_is_still_listed(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=2)
        await cluster.becomes("model", "Serving")
        evicted, living = await until(lambda: _two(cluster))
        await say(cluster, "model", evicted, "Ready", "")
        await say(cluster, "model", living, "QuotaExhausted", "Add credit.")
        failed = {"status": {"phase": "Failed", "reason": "Evicted"}}
        await cluster.ask("PATCH", f"{cluster.path('Pod')}/{evicted}/status", failed)

        async def names() -> list[str]:
            return [each["name"] for each in (await cluster.model("model"))["status"].get("nodes") or []]

        await until(lambda: _is(names, [living]))


async def test_a_pod_whose_image_cannot_be_pulled_is_told_of_though_another_one_works(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, minReplicas=1)
        await cluster.becomes("model", "Serving")
    # As the kubelet would.
    template = (await cluster.owned("Deployment", "model"))["spec"]["template"]
    broken = {"metadata": {"name": "broken", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    await cluster.ask("POST", cluster.path("Pod"), broken)
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image."}
    container = {"name": "node", "image": "it", "imageID": "", "ready": False, "restartCount": 0}
    status = {"containerStatuses": [container | {"state": {"waiting": waiting}}]}
    await cluster.ask("PATCH", f"{cluster.path('Pod')}/broken/status", {"status": status})
    told = await cluster.becomes("model", "NodesNotStarted", "Degraded")
    assert told == "broken: ImagePullBackOff: Back-off pulling image."
    assert (await cluster.condition("model"))[:2] == ("True", "Serving")


async def _two(cluster: Controlled) -> list[str] | None:
    found = await pods(cluster)
    return found if len(found) == 2 else None


async def test_an_aimodel_that_cannot_be_read_says_so_and_can_be_deleted(cluster: Controlled) -> None:
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        for name in ("mended", "deleted"):
            spec = REMOTE | {"remote": REMOTE["remote"] | {"apiURL": "https://\u2100.example.com/v1"}}
            await cluster.declare(name, spec | {"model": f"model-{uuid.uuid4().hex[:8]}"}, minReplicas=1)
            assert "spec.remote.apiURL is no address" in await cluster.becomes(name, "Unreadable")
        await cluster.change("mended", remote={"apiURL": "https://api.example.com/v1"})
        await cluster.becomes("mended", "Serving")
        # Once more: what stays as it is stays in the status, too.
        told = (await cluster.model("mended") or {})["status"]
        await cluster.change("mended", remote={"apiURL": "https://\u2100.example.com/v1"})
        await cluster.becomes("mended", "Unreadable")
        now = (await cluster.model("mended") or {})["status"]
        assert {name: now.get(name) for name in FIGURES} == {name: told.get(name) for name in FIGURES}
        assert {each["type"] for each in now["conditions"]} == {each["type"] for each in told["conditions"]}
        await cluster.delete("deleted")

        async def gone() -> bool:
            return await cluster.model("deleted") is None

        await until(gone)


async def test_an_admission_webhook_that_is_away_is_told_and_waited_for(
    cluster: Controlled, spec: dict[str, Any]
) -> None:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    webhook = {
        "name": "away.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
        "rules": [rule],
    }
    kind = "MutatingWebhookConfiguration"
    path = f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s"
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": cluster.namespace}}
    await cluster.ask("POST", path, body | {"webhooks": [webhook]})
    try:

        async def is_asked() -> bool:
            try:
                await cluster.ask("POST", f"{cluster.path('Deployment')}?dryRun=All", {"metadata": {"name": "x"}})
            except Refused as refused:
                return "away.example.com" in refused.message
            return False

        await until(is_asked)
        cluster.start(RESYNC_S="3600")
        await cluster.declare("model", spec)
        assert 'failed calling webhook "away.example.com"' in await cluster.becomes("model", "NotApplied", "Degraded")
    finally:
        await cluster.ask("DELETE", f"{path}/{cluster.namespace}")
    await cluster.becomes("model", "ScaledToZero", within_s=40)


async def test_without_keda_there_is_a_fixed_number_of_nodes_that_people_scale(
    bare_cluster: Controlled, spec: dict[str, Any]
) -> None:
    cluster = bare_cluster
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec)
        await cluster.becomes("model", "Serving")
        truth, reason, message = await cluster.condition("model", "ScalingActive")
        assert (truth, reason) == ("False", "NoKEDA")
        assert "there is always 1 node" in message
        assert "kubectl scale aimodel/model --replicas=N" in message
        scale = f"{BASE}/{cluster.namespace}/aimodels/model/scale"
        await cluster.ask("PATCH", scale, {"spec": {"replicas": 3}})

        async def ready() -> int:
            return int((await cluster.model("model"))["status"].get("readyNodes") or 0)

        await until(lambda: _is(ready, 3))
        told = await cluster.ask("GET", scale)
        assert told["status"]["replicas"] == 3
        assert told["status"]["selector"]
        await cluster.delete("model")

        async def gone() -> bool:
            return await cluster.model("model") is None

        await until(gone)


async def test_keda_that_comes_later_takes_over_the_number_as_it_is(
    bare_cluster: Controlled, spec: dict[str, Any], api_server: ApiServer
) -> None:
    from tests.kube.conftest import KEDA

    cluster = bare_cluster
    cluster.start()
    async with StandIn(cluster.server, cluster.namespace):
        await cluster.declare("model", spec, replicas=3)
        await cluster.becomes("model", "Serving")
        for path in sorted(KEDA.glob("*.yaml")):
            await asyncio.to_thread(install, cluster.server, yaml.safe_load(path.read_text()))
        await cluster.becomes("model", "ByQueue", "ScalingActive")
        await cluster.change("model", slots=3)
        await cluster.exists("ScaledObject", "model")

        async def is_seen() -> bool:
            return bool((await cluster.model("model"))["status"]["observedGeneration"] == 2)

        await until(is_seen)
        assert (await cluster.owned("Deployment", "model"))["spec"]["replicas"] == 3


async def test_an_api_server_that_goes_away_and_comes_back_is_waited_for(
    bare_cluster: Controlled, spec: dict[str, Any]
) -> None:
    cluster = bare_cluster
    cluster.start()
    await cluster.declare("model", spec)
    await cluster.exists("Deployment", "model")
    await asyncio.to_thread(cluster.server.kill_server)
    await asyncio.to_thread(cluster.server.start)
    await cluster.declare("later", spec)
    await cluster.exists("Deployment", "later", within_s=40)
