"""The README's way from an empty cluster to the first answer, as far as an API server without a kubelet goes.

The commands are run as they stand there. What runs in Pods runs as processes of this machine, with the settings,
Secrets and permissions of the manifests, against a real Pulsar with the broker settings of the overlay.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.request import urlopen

import aiohttp
import pytest

from tests.in_process import free_port
from tests.kube.cluster_pods import NAMESPACE, ClusterPods
from tests.kube.manifests import K8S, ROOT, one, overlay
from tests.kube.node_process import NodeProcess
from tests.pulsar_server import PulsarMissing, PulsarServer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kube.api_server import ApiServer

pytestmark = [pytest.mark.kube, pytest.mark.pulsar, pytest.mark.timeout(240)]

COMMANDS = re.findall(r"```console\n(.*?)```", (K8S / "README.md").read_text(), re.DOTALL)[0].splitlines()
KUBECTL = """#!/usr/bin/env bash
# What needs a kubelet, the test has done itself.
case "$*" in
  *"rollout status deployment/workernode-gateway"*) exit 0 ;;
  *port-forward*) echo "Forwarding from 127.0.0.1:$TEST_PORT -> 8081"; exec sleep 60 ;;
  *) exec "$TEST_KUBECTL" "$@" ;;
esac
"""


@pytest.fixture
def shell(api_server: ApiServer, tmp_path: Path) -> dict[str, str]:
    """The environment of the README's commands."""
    kubectl = shutil.which("kubectl")
    if kubectl is None or shutil.which("jo") is None:
        _missing("kubectl or jo is not installed.")
    (tmp_path / "bin").mkdir()
    wrapped = tmp_path / "bin" / "kubectl"
    wrapped.write_text(KUBECTL)
    wrapped.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    known = {"PATH": path, "HOME": str(tmp_path), "KUBECONFIG": str(api_server.kubeconfig())}
    return {**known, "TEST_KUBECTL": kubectl, "TEST_PORT": str(free_port())}


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("CI") == "true" and shutil.which("kubectl") is not None:
        pytest.fail(sentence)
    pytest.skip(sentence)


def run(command: str, env: dict[str, str]) -> str:
    """What a command of the README says."""
    ran = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def minimal(api_server: ApiServer, shell: dict[str, str], tmp_path: Path) -> Iterator[tuple[ClusterPods, PulsarServer]]:
    """The overlay applied, its setup done, its broker running."""
    run(COMMANDS[2], shell)
    objects = overlay("minimal")
    job = one(objects, "Job", "workernode-setup")["spec"]["template"]
    here: dict[str, str] = {}
    pods = ClusterPods(api_server, objects, tmp_path, here)
    (credentials,), (access,) = job["spec"]["initContainers"], job["spec"]["containers"]
    assert pods.once(job, credentials).count("is made.") == 7

    files = tmp_path / "broker"
    files.mkdir()
    conf = one(objects, "ConfigMap", "workernode-pulsar-")["data"]["cluster.conf"]
    for folder, secret in (("signing", "workernode-pulsar-signing"), ("admin", "workernode-pulsar-admin")):
        for name, value in pods.secret(secret).items():
            (files / folder).mkdir()
            (files / folder / name).write_bytes(value)
            conf = conf.replace(f"/run/secrets/{folder}/{name}", str(files / folder / name))
    conf = re.sub(r"^(bind|advertised)Address=.*", r"\1Address=127.0.0.1", conf, flags=re.MULTILINE)
    (pulsar,) = one(objects, "StatefulSet", "workernode-pulsar")["spec"]["template"]["spec"]["containers"]
    assert "&& touch /tmp/status &&" in pulsar["command"][-1]
    (files / "status").touch()
    conf = conf.replace("=/tmp/status", f"={files / 'status'}")
    probe = pulsar["livenessProbe"]["httpGet"]
    assert probe["port"] == "admin"
    broker = PulsarServer(files, settings=conf, token=pods.secret("workernode-pulsar-admin")["token"].decode())
    try:
        broker.start()
    except PulsarMissing as missing:
        _missing(f"There is no Pulsar broker: {missing}.")
    with urlopen(broker.admin_url + probe["path"]) as answer:
        assert answer.status == 200  # or the kubelet would kill it again and again
    here |= {"PULSAR_URL": broker.url, "PULSAR_ADMIN_URL": broker.admin_url}
    pods.once(job, access)
    yield pods, broker
    pods.stop()
    broker.stop()


def test_five_commands_lead_to_the_first_answer() -> None:
    assert [command.split()[0] for command in COMMANDS] == ["kind", "docker", "kubectl", "kubectl", "deploy/k8s/ask"]


async def test_the_first_answer_comes_from_a_node_that_was_not_there(
    api_server: ApiServer, minimal: tuple[ClusterPods, PulsarServer], shell: dict[str, str], tmp_path: Path
) -> None:
    pods, broker = minimal
    gateway, management = f"http://127.0.0.1:{shell['TEST_PORT']}", f"http://127.0.0.1:{free_port()}"
    token = api_server.token_of(NAMESPACE, "workernode-controller")
    kubeconfig = str(api_server.kubeconfig(token))
    log = pods.start("workernode-controller", KUBECONFIG=kubeconfig, CONTROLLER_PORT=str(free_port()))
    pods.start("workernode-management", MANAGEMENT_PORT=management.rpartition(":")[2])
    pods.start("workernode-gateway", PORT=shell["TEST_PORT"])
    await asyncio.to_thread(run, COMMANDS[3], shell)
    node: NodeProcess | None = None

    async with aiohttp.ClientSession() as session:
        try:
            await until(lambda: _is_ready(session, gateway), within_s=40)
            models = await _get(session, f"{gateway}/v1/models", pods.secret("workernode-keys")["api-key"])
            assert [each["id"] for each in models["data"]] == ["static"]
            async with session.get(f"{gateway}/v1/models") as response:
                assert response.status == 401  # nothing is open

            asking = asyncio.create_task(asyncio.to_thread(run, COMMANDS[4], shell))
            # KEDA asks with the nodes' token, sees a request that waits, and scales.
            stats = f"{broker.admin_url}/admin/v2/persistent/workernode/requests/requests.static.normal/stats"
            bearer = pods.secret("workernode-pulsar-node")["token"]

            async def waits() -> bool:
                assert not asking.done(), log.read_text()
                found = await _get(session, stats, bearer)
                return bool(found["subscriptions"]["workers"]["msgBacklog"] == 1)

            await until(waits, within_s=20)
            node = NodeProcess(api_server, NAMESPACE, await asyncio.to_thread(_new_pod, api_server), tmp_path)
            assert "the way from your client to a node and back works" in await asking

            async def is_charged() -> bool:
                key = pods.secret("workernode-keys")["management-key"]
                usage = await _get(session, f"{management}/api/v1/usage?by=model", key)
                return [row["requests"] for row in usage["data"]] == [1]

            await until(is_charged)
            await until(lambda: _shown(api_server, node.name))
        finally:
            if node is not None:
                node.kill()


def _new_pod(api_server: ApiServer) -> Any:
    """What a Deployment that was scaled makes of its template."""
    made = api_server.ask("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aimodel-static")
    template = made["spec"]["template"]
    metadata = {"name": "aimodel-static-1", "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return api_server.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _get(session: aiohttp.ClientSession, url: str, key: bytes) -> Any:
    async with session.get(url, headers={"authorization": f"Bearer {key.decode()}"}) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def _shown(api_server: ApiServer, node: str) -> bool:
    path = f"/apis/models.workernode.io/v1alpha1/namespaces/{NAMESPACE}/aimodels/static"
    found = await asyncio.to_thread(api_server.ask, "GET", path)
    return [(each["name"], each["state"]) for each in found["status"].get("nodes", ())] == [(node, "Ready")]
