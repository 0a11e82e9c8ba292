"""Programs of ours in Pods of the cluster."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.kubectl import apply, kubectl, read, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "workernode-proof"
"""Of what asks and of what is asked: the fleet's own has network policies."""
HERE = Path(__file__).parent
LOAD_S_MAX = 600.0


def prepare() -> None:
    """The namespace, and the programs' texts."""
    texts = {program.name: program.read_text() for program in (HERE / "asking.py", HERE / "provider.py")}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named("programs"), "data": texts})


def program(name: str, image: str, *command: str, env: dict[str, str] | None = None) -> None:
    """Start ``python COMMAND`` in a Pod of this name; a Service of its name leads to it."""
    container = {
        "name": "program",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", *command],
        "workingDir": "/programs",
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "programs", "configMap": {"name": "programs"}}],
    }
    labels = {"program": name}
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": _named(name) | {"labels": labels}, "spec": spec})


def service(name: str, port: int) -> str:
    """The address of a program."""
    spec = {"selector": {"program": name}, "ports": [{"port": port}]}
    apply({"apiVersion": "v1", "kind": "Service", "metadata": _named(name), "spec": spec})
    return f"http://{name}.{NAMESPACE}:{port}"


class Load:
    """A client that asks while something happens; ``outcome`` is there when it has ended."""

    def __init__(self) -> None:
        self.outcome: dict[str, Any] = {}


@contextlib.contextmanager
def load(
    image: str, url: str, model: str, key: str, *, requests: int, per_second: float, retries: int
) -> Iterator[Load]:
    """Ask from within the cluster; what happens in the body happens while answers are under way."""
    asked = (url, model, str(requests), str(per_second), str(retries))
    program("asking", image, "asking.py", *asked, env={"OPENAI_API_KEY": key})
    asking = Load()
    try:
        until(lambda: _said(), "the client's first answer")
        yield asking
        until(lambda: len(_said()) > 1 or _phase() in ("Failed", "Succeeded"), "the client's end", LOAD_S_MAX)
        asking.outcome = json.loads(_said()[-1])
    finally:
        kubectl("delete", "pod", "asking", "--namespace", NAMESPACE, "--wait=true", "--grace-period=1")


def _said() -> list[str]:
    if _phase() in ("", "Pending"):
        return []
    return [line for line in kubectl("logs", "asking", "--namespace", NAMESPACE).splitlines() if line.startswith("{")]


def _phase() -> str:
    return str(read("pod", "asking", "--namespace", NAMESPACE)["status"].get("phase", ""))


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE}
