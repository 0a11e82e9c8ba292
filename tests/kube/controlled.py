"""A controller in the test's loop, and what it has made."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller import role
from controller.settings import ControllerSettings
from process.settings import load
from tests.kube.api_server import Refused
from tests.kube.models import BASE, resource
from tests.waiting import until

if TYPE_CHECKING:
    from tests.kube.api_server import ApiServer
    from tests.pulsar_server import PulsarServer

APIS = {
    "Deployment": "/apis/apps/v1/{}/deployments",
    "ServiceAccount": "/api/v1/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/{}/rolebindings",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/{}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/{}/poddisruptionbudgets",
    "ScaledObject": "/apis/keda.sh/v1alpha1/{}/scaledobjects",
    "TriggerAuthentication": "/apis/keda.sh/v1alpha1/{}/triggerauthentications",
    "Event": "/api/v1/{}/events",
    "Pod": "/api/v1/{}/pods",
}
LOOK_S = 0.1
ROOT = Path(__file__).parents[2]
MERGE = "application/merge-patch+json"


class Controlled:
    """One namespace, and controllers that watch it."""

    def __init__(self, server: ApiServer, namespace: str, pulsar: PulsarServer, **settings: str) -> None:
        self.server = server
        self.namespace = namespace
        self.environ = {
            "PULSAR_URL": pulsar.url,
            "PULSAR_ADMIN_URL": pulsar.admin_url,
            "WATCH_NAMESPACE": namespace,
            "LEASE_NAMESPACE": namespace,
            "LEASE_S": "3",
            "RESYNC_S": "1",
            "KUBECONFIG": str(server.kubeconfig()),
            "CONTROLLER_PORT": "0",
            **settings,
        }
        self.keda_runs = True
        self._process: subprocess.Popen[bytes] | None = None
        self._running: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def __aenter__(self) -> Controlled:
        self._keda = asyncio.create_task(self._accept_scaled_objects())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keda.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keda
        self.kill_process()
        while self._running:
            await self.stop()

    def start(self, **settings: str) -> None:
        """One controller more."""
        stop = asyncio.Event()
        loaded = load(ControllerSettings, self.environ | settings)
        self._running.append((asyncio.create_task(role.run(loaded, stop)), stop))

    async def stop(self) -> None:
        """In order."""
        task, stop = self._running.pop(0)
        stop.set()
        await asyncio.wait_for(task, 20)

    def start_process(self, log: Path) -> None:
        """One controller as a process of its own, to be killed."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "controller"],
                cwd=ROOT,
                env=kept | self.environ,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def kill_process(self) -> None:
        """End it without a word to anybody: its Lease stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    async def declare(self, name: str, spec: dict[str, Any], **more: Any) -> None:
        await self.ask("POST", f"{BASE}/{self.namespace}/aimodels", resource(name, spec, **more))

    async def change(self, name: str, **spec: Any) -> None:
        await self.ask("PATCH", f"{BASE}/{self.namespace}/aimodels/{name}", {"spec": spec})

    async def delete(self, name: str) -> None:
        await self.ask("DELETE", f"{BASE}/{self.namespace}/aimodels/{name}")

    async def model(self, name: str) -> Any:
        """The AIModel, None if there is none."""
        return await self._or_none(f"{BASE}/{self.namespace}/aimodels/{name}")

    async def owned(self, kind: str, name: str) -> Any:
        """An object of an AIModel, None if there is none."""
        return await self._or_none(f"{self.path(kind)}/aimodel-{name}")

    def path(self, kind: str) -> str:
        """Where the objects of a kind are."""
        return APIS[kind].format(f"namespaces/{self.namespace}")

    async def condition(self, name: str, kind: str = "Ready") -> tuple[str, str, str]:
        """Truth, reason and message of a condition; three empty words if there is none."""
        status = ((await self.model(name)) or {}).get("status") or {}
        for each in status.get("conditions") or []:
            if each["type"] == kind:
                return each["status"], each["reason"], each["message"]
        return "", "", ""

    async def becomes(self, name: str, reason: str, kind: str = "Ready", within_s: float = 20.0) -> str:
        """Wait for a condition's reason; its message."""

        async def told() -> str | None:
            _, found, message = await self.condition(name, kind)
            return message if found == reason else None

        try:
            message: str = await until(told, within_s=within_s, every_s=0.05)
        except AssertionError:
            raise AssertionError(f"{kind} is {await self.condition(name, kind)} and not {reason}") from None
        return message

    async def exists(self, kind: str, name: str, within_s: float = 20.0) -> Any:
        """Wait for an object."""

        async def found() -> Any:
            return await self.owned(kind, name)

        return await until(found, within_s=within_s, every_s=0.05)

    async def ask(self, method: str, path: str, body: object = None, content: str = "") -> Any:
        content = content or (MERGE if method == "PATCH" else "application/json")
        return await asyncio.to_thread(self.server.ask, method, path, body, content=content)

    async def _accept_scaled_objects(self) -> None:
        """As KEDA's operator does, where its resources are known."""
        said = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Paused", "status": "False"}]}}
        path = self.path("ScaledObject")
        while True:
            with contextlib.suppress(Refused, OSError):
                for each in (await self.ask("GET", path))["items"]:
                    if self.keda_runs and not each.get("status"):
                        await self.ask("PATCH", f"{path}/{each['metadata']['name']}/status", said)
            await asyncio.sleep(LOOK_S)

    async def _or_none(self, path: str) -> Any:
        try:
            return await self.ask("GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
