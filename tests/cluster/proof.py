"""What is done to a fleet in a cluster, and what is asked of it: step by step, each with its figures."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster import pods, provider
from tests.cluster.kubectl import KubectlFailed, apply, kubectl, read, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
OVERLAY = str(ROOT / "deploy/k8s/overlays/minimal")
CRD = str(ROOT / "deploy/k8s/crd.yaml")
EXAMPLE = str(ROOT / "deploy/k8s/example.yaml")
FLEET = "workernode"
URL = f"http://workernode-gateway.{FLEET}:8081/v1"
TOKENS = [f"workernode-pulsar-{role}" for role in ("signing", "admin", "gateway", "management", "controller", "node")]
CLIENT_RETRIES = 8
"""Where somebody's death is a client's business: OpenAI's client waits 0.5 to 8 s between them."""


@dataclass
class Row:
    """One figure: ``met`` is None where nothing is aimed at."""

    step: str
    figure: str
    measured: str
    aim: str = ""
    met: bool | None = None


class Proof:
    """All steps, in their order; ``rows`` grow with them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.rows: list[Row] = []
        self._say = say
        self._image = ""

    def run(self) -> None:
        """From nothing to nothing. Raises :class:`tests.cluster.kubectl.KubectlFailed` where a step cannot go on."""
        with contextlib.suppress(KubectlFailed):
            kubectl("get", "namespace", FLEET)
            raise SystemExit(
                f"There is a namespace {FLEET} in this cluster already: delete it, or take another cluster."
            )
        try:
            self._installed()
            pods.prepare()
            self._nodes_end()
            self._gateways_are_replaced()
            self._tokens_are_renewed()
            self._broker_dies()
            self._slow_model_is_there()
            if _has_keda():
                self._scaled_by_queue()
            self._model_is_deleted()
        finally:
            kubectl("delete", "namespace", pods.NAMESPACE, "--ignore-not-found", "--wait=false")
        self._deleted()

    def _installed(self) -> None:
        step = "From an empty cluster"
        began = time.monotonic()
        kubectl("apply", "--server-side", "--filename", CRD)
        kubectl("apply", "--server-side", "--kustomize", OVERLAY)
        kubectl("apply", "--server-side", "--filename", EXAMPLE)
        said = self._asked()
        self._row(step, "`kubectl apply` to the first answer", _since(began))
        self._row(step, "its client waited for a node that was not there yet", "yes" if said > 1000 else "no")
        restarts = {pod["metadata"]["name"]: _restarts(pod) for pod in self._pods()}
        self._row(
            step, "containers that ended on the way", str(sum(restarts.values())), "0", not any(restarts.values())
        )
        self._image = read("deployment", "workernode-gateway", *_here())["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]

    def _nodes_end(self) -> None:
        step = "Nodes end under load"
        kubectl(
            "patch",
            "aimodel",
            "static",
            *_here(),
            "--type=merge",
            "--patch",
            '{"spec":{"minReplicas":2,"maxReplicas":2,"replicas":2}}',
        )
        self._has_nodes("static", 2)
        with self._load(requests=600, per_second=20, retries=0) as load:
            for options in (["--grace-period=0", "--force"], []):
                kubectl("delete", *_here(), self._node_of("static"), "--wait=false", *options)
                time.sleep(2)  # or the one that has just come would be next
                self._has_nodes("static", 2)
        self._fared(step, "one node killed and one deleted, 20 requests/s", load)

    def _gateways_are_replaced(self) -> None:
        step = "Gateways are replaced under load"
        kubectl("patch", "hpa", "workernode-gateway", *_here(), "--type=merge", "--patch", '{"spec":{"minReplicas":2}}')
        kubectl("rollout", "status", "deployment/workernode-gateway", *_here(), "--timeout=3m")
        until(lambda: len(self._ready("gateway")) == 2, "two gateways")
        with self._load(requests=900, per_second=20, retries=CLIENT_RETRIES) as load:
            kubectl("rollout", "restart", "deployment/workernode-gateway", *_here())
            kubectl("rollout", "status", "deployment/workernode-gateway", *_here(), "--timeout=5m")
        self._fared(step, "both, one after the other", load)

    def _tokens_are_renewed(self) -> None:
        step = "Tokens are renewed"
        others = {
            pod["metadata"]["name"]: _restarts(pod) for pod in self._pods() if "pulsar" not in pod["metadata"]["name"]
        }
        kubectl("delete", "secret", *_here(), *TOKENS)
        kubectl("delete", "job", "workernode-setup", *_here(), "--ignore-not-found")
        # The number of gateways was ours to change.
        kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", OVERLAY)
        kubectl("rollout", "restart", "statefulset/workernode-pulsar", *_here())
        kubectl("rollout", "status", "statefulset/workernode-pulsar", *_here(), "--timeout=5m")
        began = time.monotonic()
        until(self._answers, "an answer with the new tokens", 180)
        self._row(step, "broker ready to the first answer with the new ones", _since(began))
        now = {pod["metadata"]["name"]: _restarts(pod) for pod in self._pods()}
        changed = [
            name
            for name, count in others.items()
            if name.startswith("workernode-") and "setup" not in name and now.get(name) != count
        ]
        self._row(step, "containers that ended for it, beside the broker's", str(len(changed)), "0", not changed)

    def _broker_dies(self) -> None:
        step = "The broker is killed under load"
        with self._load(requests=900, per_second=10, retries=CLIENT_RETRIES) as load:
            kubectl("delete", "pod", "workernode-pulsar-0", *_here(), "--grace-period=0", "--force")
        self._fared(step, f"10 requests/s, clients try {CLIENT_RETRIES} times more", load)

    def _slow_model_is_there(self) -> None:
        pods.program("provider", self._image, "provider.py", "6")
        address = pods.service("provider", provider.PORT)
        secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "provider", "namespace": FLEET}}
        apply(secret | {"stringData": {"api-key": "sk-no-provider-asks-for-it"}}, _slow(f"{address}/v1"))
        until(lambda: self._condition("slow")[0] == "True", "the slow model")

    def _scaled_by_queue(self) -> None:
        step = "KEDA scales by the queue"
        began = time.monotonic()
        with self._load("slow", requests=150, per_second=3, retries=0) as load:
            self._row(step, "first answer of a model without nodes, which takes 6 s itself", _since(began))
            began = time.monotonic()
            until(lambda: self._nodes("slow") == 4, "four nodes")
            self._row(step, "3 requests/s of 6 s each: from one node of 4 slots to four", _since(began))
        self._fared(step, "while nodes came", load)
        began = time.monotonic()
        until(lambda: self._nodes("slow") == 0, "no node again", 300)
        self._row(step, "from the end of the client's Pod to no node, with `cooldownSeconds` of 20", _since(began))

    def _model_is_deleted(self) -> None:
        step = "An AIModel is deleted while its only node works"
        with self._load("slow", requests=4, per_second=100, retries=0) as load:
            time.sleep(2)  # of the six that an answer takes
            began = time.monotonic()
            kubectl("delete", "aimodel", "slow", *_here(), "--timeout=3m")
            self._row(step, "until it is gone", _since(began))
        self._fared(step, "4 answers under way", load)
        kinds = "deployment,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,pod"

        def left() -> list[str]:
            names = [each["metadata"]["name"] for each in read(kinds, *_here())]
            return [name for name in names if name.startswith("aimodel-slow")]

        with contextlib.suppress(KubectlFailed):
            until(lambda: not left(), "the AIModel's objects gone")
        self._row(step, "objects that are left of it", str(len(left())), "0", not left())

    def _deleted(self) -> None:
        step = "All of it is deleted"
        began = time.monotonic()
        kubectl("delete", "aimodels", "--all", *_here(), "--timeout=3m")
        kubectl("delete", "--kustomize", OVERLAY, "--ignore-not-found", "--wait=true", "--timeout=5m")
        kubectl("delete", "--filename", CRD)
        self._row(step, "until the namespace is gone", _since(began))
        kinds = ("clusterrole", "clusterrolebinding", "customresourcedefinition", "namespace")
        left = [each["metadata"]["name"] for kind in kinds for each in read(kind) if _is_ours(each["metadata"]["name"])]
        self._row(step, "objects that are left in the cluster", str(len(left)), "0", not left)

    def _asked(self) -> int:
        """One question by `deploy/k8s/ask`; the milliseconds that it took the gateway."""
        ran = subprocess.run([ROOT / "deploy/k8s/ask"], capture_output=True, text=True, check=False)
        if ran.returncode or '"chat.completion"' not in ran.stdout:
            raise KubectlFailed(f"deploy/k8s/ask: {ran.stdout} {ran.stderr[-500:]}")
        found = re.search(r"openai-processing-ms: (\d+)", ran.stderr)
        return int(found[1]) if found else 0

    def _answers(self) -> bool:
        try:
            return self._asked() >= 0
        except KubectlFailed:
            return False

    @contextlib.contextmanager
    def _load(self, model: str = "static", **how: Any) -> Iterator[pods.Load]:
        key = b64decode(read("secret", "workernode-keys", *_here())["data"]["api-key"]).decode()
        with pods.load(self._image, URL, model, key, **how) as load:
            yield load

    def _fared(self, step: str, figure: str, load: pods.Load) -> None:
        outcome = load.outcome
        broken = outcome["asked"] - outcome["answered"]
        tried = f", {outcome['retries']} tried again" if outcome["retries"] else ""
        self._row(step, f"{figure}: answers lost or broken", f"{broken} of {outcome['asked']}{tried}", "0", not broken)
        self._row(step, "median and latest answer", f"{outcome['p50_ms']:,.0f} and {outcome['latest_ms']:,.0f} ms")
        for trouble in outcome["troubles"]:
            self._say(f"  {trouble}")

    def _row(self, step: str, figure: str, measured: str, aim: str = "", met: bool | None = None) -> None:
        self.rows.append(Row(step, figure, measured, aim, met))
        verdict = {True: "met", False: "MISSED", None: ""}[met]
        self._say(f"{step}: {figure}: {measured} {verdict}".rstrip())

    def _pods(self) -> list[dict[str, Any]]:
        return [pod for pod in read("pod", *_here()) if not pod["metadata"].get("deletionTimestamp")]

    def _ready(self, component: str) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self._pods()
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == component
            and any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", [])
            )
        ]

    def _node_of(self, model: str) -> str:
        return "pod/" + next(name for name in self._ready("node") if name.startswith(f"aimodel-{model}-"))

    def _nodes(self, model: str) -> int:
        return sum(name.startswith(f"aimodel-{model}-") for name in self._ready("node"))

    def _has_nodes(self, model: str, count: int) -> None:
        until(lambda: self._nodes(model) == count, f"{count} nodes of {model}", 180)

    def _condition(self, model: str) -> tuple[str, str]:
        conditions = read("aimodel", model, *_here()).get("status", {}).get("conditions", [])
        return next(((each["status"], each["reason"]) for each in conditions if each["type"] == "Ready"), ("", ""))


def _has_keda() -> bool:
    return any(each["metadata"]["name"] == "scaledobjects.keda.sh" for each in read("customresourcedefinition"))


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


def conditions() -> dict[str, str]:
    """What the cluster is."""
    node = read("node")[0]
    told = node["status"]["nodeInfo"]
    keda = [
        container["image"]
        for each in read("deployment", "--all-namespaces")
        if "keda" in each["metadata"]["namespace"]
        for container in each["spec"]["template"]["spec"]["containers"]
    ]
    return {
        "kubernetes": json.loads(kubectl("get", "--raw", "/version"))["gitVersion"],
        "nodes": str(len(read("node"))),
        "cores": str(node["status"]["capacity"]["cpu"]),
        "containers": told["containerRuntimeVersion"],
        "kernel": told["kernelVersion"],
        "keda": ", ".join(keda),
    }


def _here() -> tuple[str, str]:
    return "--namespace", FLEET


def _restarts(pod: dict[str, Any]) -> int:
    status = pod["status"]
    every = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return sum(int(each["restartCount"]) for each in every)


def _is_ours(name: str) -> bool:
    return (name.startswith("workernode") and name != pods.NAMESPACE) or name.endswith(".workernode.io")


def _slow(url: str) -> dict[str, Any]:
    spec = {
        "type": "remote",
        "model": "slow",
        "remote": {"apiURL": url, "apiKeySecret": {"name": "provider", "key": "api-key"}},
        "slots": 4,
        "waitingPerSlot": 1,
        "minReplicas": 0,
        "maxReplicas": 4,
        "cooldownSeconds": 20,
        "gracePeriodSeconds": 60,
    }
    metadata = {"name": "slow", "namespace": FLEET}
    return {"apiVersion": "models.workernode.io/v1alpha1", "kind": "AIModel", "metadata": metadata, "spec": spec}
