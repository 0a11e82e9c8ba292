"""Real node processes with their service account's token, and what the status of their AIModel says of them."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from controller.aimodel import read
from controller.manifests.access import role
from process.cluster import Cluster
from tests.fake_upstream import Chaos, FakeUpstream
from tests.kube.account import allow, mounted
from tests.kube.models import BASE, REMOTE, resource
from tests.processes import Processes
from tests.waiting import until
from workernode.aimodel import AIModelEntry
from workernode.heartbeat import Heartbeat
from workernode.identity import NodeIdentity
from workernode.static.engine import StaticEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kube.api_server import ApiServer
    from tests.pulsar_server import PulsarServer

pytestmark = [pytest.mark.kube, pytest.mark.pulsar]

Entry = dict[str, Any]
UNKNOWN = b'{"error": {"message": "The model does not exist.", "code": "model_not_found"}}'


class Declared:
    """An AIModel of a namespace of its own, whose nodes are processes of this test."""

    def __init__(self, server: ApiServer, namespace: str, processes: Processes) -> None:
        self.server = server
        self.path = f"{BASE}/{namespace}/aimodels/it"
        self.namespace = namespace
        self.processes = processes

    async def entries(self) -> dict[str, Entry]:
        """What the nodes say of themselves, by name."""
        found = await asyncio.to_thread(self.server.ask, "GET", self.path)
        return {each["name"]: each for each in found.get("status", {}).get("nodes", ())}

    async def becomes(self, state: str, node: str = "pod-1", within_s: float = 20.0) -> Entry:
        """Wait until the status shows a node in this state."""

        async def shown() -> Entry | None:
            entry = (await self.entries()).get(node)
            return entry if entry is not None and entry["state"] == state else None

        try:
            found: Entry = await until(shown, within_s=within_s, every_s=0.05)
        except AssertionError:
            raise AssertionError(f"{node} is {(await self.entries()).get(node)} and not {state}") from None
        return found


@pytest.fixture
async def declared(
    api_server: ApiServer, namespace: str, pulsar_server: PulsarServer, tmp_path: Path
) -> AsyncIterator[Declared]:
    """With the permissions that the controller gives to nodes."""
    made = api_server.ask("POST", f"{BASE}/{namespace}/aimodels", resource("it", REMOTE))
    allow(api_server, namespace, "aimodel-it", role(read(made))["rules"])
    env = {
        "PULSAR_URL": pulsar_server.url,
        "RES_TOPIC_NAME": f"results-{namespace}",
        "MODEL_NAME": f"model-{namespace}",
        "MODELS": f"model-{namespace}",
        "AIMODEL_NAME": "it",
        "AIMODEL_NAMESPACE": namespace,
        **mounted(api_server, namespace, "aimodel-it", tmp_path / "account"),
    }
    async with Processes(tmp_path, env) as processes:
        yield Declared(api_server, namespace, processes)


async def test_a_node_shows_every_state_and_goes_on_without_the_api_server(
    declared: Declared, api_server: ApiServer
) -> None:
    async with FakeUpstream(api_key="right") as upstream, aiohttp.ClientSession() as session:
        remote = {
            "NODE_TYPE": "remote",
            "API_URL": upstream.url,
            "API_KEY": "right",
            "UPSTREAM_MODEL": "upstream-model",
            "RPM_MAX": "6000",  # else the refusal below would show a limit of what went through until then
        }
        gateway = await declared.processes.gateway()

        def ask() -> asyncio.Task[int]:
            async def status() -> int:
                body = {"model": declared.processes.model, "messages": [{"role": "user", "content": "Hello"}]}
                async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
                    await response.read()
                    return response.status

            return asyncio.create_task(status())

        node = await declared.processes.node(NODE_NAME="pod-1", MAX_PROCESS_NUM="2", **remote)
        ready = await declared.becomes("Ready")
        assert (ready["slots"], ready["busy"], ready["message"], "until" in ready) == (2, 0, "", False)
        other = await declared.processes.node(NODE_NAME="pod-2", NODE_TYPE="static", MODEL_NAME="another")
        await declared.becomes("Ready", "pod-2")

        for state, chaos in (
            ("QuotaExhausted", Chaos(status=429, quota=True)),
            ("Misconfigured", Chaos(status=404, body=UNKNOWN)),
        ):
            upstream.script = [chaos] * 50
            asked = ask()
            entry = await declared.becomes(state)
            assert entry["message"].endswith("."), state
            assert entry["until"] > entry["since"] > ready["since"], state
            upstream.script.clear()
            assert await asked == 200
            recovered = await declared.becomes("Ready")
            assert recovered["message"] == ""
            assert "until" not in recovered

        upstream.api_key = "another"
        asked = ask()
        refused = await declared.becomes("AuthenticationFailed")
        assert "API_KEY_FILE" in refused["message"]

        api_server.kill_server()
        upstream.api_key = "right"
        assert await asked == 200  # the work does not wait for the API server
        assert await ask() == 200
        await until(lambda: "The cluster's API server cannot be reached" in node.log.read_text())
        await asyncio.to_thread(api_server.start)
        assert (await declared.becomes("Ready"))["message"] == ""
        log = node.log.read_text()
        assert log.count("The cluster's API server cannot be reached") == 1
        assert log.count("The AIModel's status shows this node again.") == 1

        upstream.script = [Chaos(status=429, retry_after="2")] * 50
        asked = ask()
        limited = await declared.becomes("RateLimited")
        assert limited["until"] > limited["since"] > refused["since"]
        upstream.script.clear()
        assert await asked == 200  # the one that tried whether the limit is over
        recovered = await declared.becomes("Ready")
        assert (recovered["message"], "until" in recovered) == ("", False)

        upstream.script = ["delay-first=4"]
        asked = ask()
        await until(lambda: upstream.running == 1)
        leaving = asyncio.create_task(node.stop())
        assert (await declared.becomes("Draining"))["message"] == "The node finishes its work and leaves."
        assert await asked == 200
        assert await leaving == 0
        assert list(await declared.entries()) == ["pod-2"]
        assert await other.stop() == 0
        assert await declared.entries() == {}


async def test_what_somebody_else_writes_into_an_entry_does_not_stay(
    declared: Declared, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workernode.aimodel.APPLY_PAUSE_S", 0.01)
    common = declared.processes.common
    identity = NodeIdentity("node-pod-1-0123456789abcdef", "pod-1", "it", "static")
    heartbeat = Heartbeat(identity, StaticEngine("."), 1, lambda: (0, 0))
    cluster = Cluster(api_server.url, Path(common["SERVICE_ACCOUNT_DIR"]))
    entry = AIModelEntry(cluster, declared.namespace, "it", "pod-1", heartbeat)
    running = asyncio.create_task(entry.run())
    said = await declared.becomes("Loading")
    body = {"apiVersion": "models.workernode.io/v1alpha1", "kind": "AIModel", "metadata": {"name": "it"}}
    body["status"] = {"nodes": [said | {"state": "Paused", "message": "Meddled."}]}
    path, content = f"{declared.path}/status?fieldManager=somebody&force=true", "application/apply-patch+yaml"
    await asyncio.to_thread(partial(api_server.ask, "PATCH", path, body, content=content))
    heartbeat.become("ready")
    assert (await declared.becomes("Ready"))["message"] == ""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await entry.aclose()


async def test_a_node_that_may_not_say_so_works_and_says_it_once_it_may(
    declared: Declared, api_server: ApiServer
) -> None:
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{declared.namespace}/rolebindings/aimodel-it"
    kept = await asyncio.to_thread(api_server.ask, "GET", binding)
    await asyncio.to_thread(api_server.ask, "DELETE", binding)
    node = await declared.processes.node(NODE_NAME="pod-1")
    sentence = "This node's service account may not apply the AIModel's status"
    await until(lambda: sentence in node.log.read_text())
    assert await declared.entries() == {}
    again = {key: kept[key] for key in ("apiVersion", "kind", "roleRef", "subjects")}
    again["metadata"] = {"name": "aimodel-it"}
    await asyncio.to_thread(api_server.ask, "POST", binding.rpartition("/")[0], again)
    await declared.becomes("Ready")
    assert node.log.read_text().count(sentence) == 1


async def test_a_node_whose_model_is_gone_works_and_makes_no_new_one(declared: Declared, api_server: ApiServer) -> None:
    await asyncio.to_thread(api_server.ask, "DELETE", declared.path)
    node = await declared.processes.node(NODE_NAME="pod-1")
    await until(lambda: "There is no such AIModel" in node.log.read_text())
    found = await asyncio.to_thread(api_server.ask, "GET", declared.path.rpartition("/")[0])
    assert found["items"] == []
    assert node.running
