"""What a cluster without nodes lacks: somebody who makes a Deployment's Pods and runs them.

Pods are real objects, admitted by the API server, made from the Deployment's own template. What runs in one is given
by a function; without it a Pod is ready as soon as it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from tests.kube.api_server import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.api_server import ApiServer

LOOK_S = 0.1
MERGE = "application/merge-patch+json"


class Container(Protocol):
    """What runs in a Pod."""

    async def is_ready(self) -> bool:
        """What the readiness probe says."""

    def terminate(self) -> None:
        """SIGTERM."""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""


class StandIn:
    """The deployment controller and the kubelet of one namespace."""

    def __init__(self, server: ApiServer, namespace: str, start: Callable[[Any], Container] | None = None) -> None:
        self._server = server
        self._namespace = namespace
        self._start = start
        self._running: dict[str, Container] = {}
        self._leaving: set[str] = set()
        self.most: dict[str, int] = {}
        """The largest number of Pods that a Deployment has had."""

    async def __aenter__(self) -> StandIn:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            for deployment in (await self._ask("GET", "/apis/apps/v1", "deployments"))["items"]:
                await self._serve(deployment)
            await asyncio.sleep(LOOK_S)

    async def _serve(self, deployment: dict[str, Any]) -> None:
        name = deployment["metadata"]["name"]
        labels = deployment["spec"]["selector"]["matchLabels"]
        query = "?labelSelector=" + ",".join(f"{key}%3D{value}" for key, value in labels.items())
        pods = (await self._ask("GET", "/api/v1", "pods" + query.replace("/", "%2F")))["items"]
        alive = [pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"] not in self._leaving]
        for _ in range(deployment["spec"]["replicas"] - len(alive)):
            await self._make(deployment, labels)
        for pod in alive[deployment["spec"]["replicas"] :]:
            await self._end(pod)
        await self._bury()
        self.most[name] = max(self.most.get(name, 0), len(pods))
        ready = [pod for pod in alive if pod not in self._running or await self._running[pod].is_ready()]
        for pod in pods:
            await self._probe(pod, is_ready=pod["metadata"]["name"] in ready)
        counted = {"replicas": len(pods), "readyReplicas": len(ready)}
        before = deployment.get("status") or {}
        if any(before.get(key, 0) != value for key, value in counted.items()):
            await self._ask("PATCH", "/apis/apps/v1", f"deployments/{name}/status", {"status": counted})

    async def _make(self, deployment: dict[str, Any], labels: dict[str, str]) -> None:
        template = deployment["spec"]["template"]
        name = f"{deployment['metadata']['name']}-{uuid.uuid4().hex[:6]}"
        metadata = {"name": name, "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        await self._ask("POST", "/api/v1", "pods", pod)
        if self._start is not None:
            self._running[name] = await asyncio.to_thread(self._start, pod)

    async def _probe(self, pod: dict[str, Any], *, is_ready: bool) -> None:
        conditions = [{"type": "Ready", "status": str(is_ready)}]
        status = pod.get("status") or {}
        if status.get("phase") != "Failed" and status.get("conditions") != conditions:
            with contextlib.suppress(Refused):  # it may be gone
                name = pod["metadata"]["name"]
                await self._ask("PATCH", "/api/v1", f"pods/{name}/status", {"status": {"conditions": conditions}})

    async def _end(self, pod: str) -> None:
        if pod in self._running:
            self._leaving.add(pod)
            self._running[pod].terminate()
        else:
            await self._forget(pod)

    async def _bury(self) -> None:
        for pod in [pod for pod in self._leaving if self._running[pod].ended]:
            self._leaving.discard(pod)
            del self._running[pod]
            await self._forget(pod)

    async def _forget(self, pod: str) -> None:
        with contextlib.suppress(Refused):
            await self._ask("DELETE", "/api/v1", f"pods/{pod}?gracePeriodSeconds=0")

    async def _ask(self, method: str, api: str, what: str, body: object = None) -> Any:
        path = f"{api}/namespaces/{self._namespace}/{what}"
        content = MERGE if method == "PATCH" else "application/json"
        return await asyncio.to_thread(self._server.ask, method, path, body, content=content)
