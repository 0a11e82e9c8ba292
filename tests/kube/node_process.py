"""A Pod's container as a process of this machine: the Pod's own arguments, settings and secrets, and its probe."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from tests.in_process import free_port

if TYPE_CHECKING:
    from tests.kube.api_server import ApiServer

ROOT = Path(__file__).parents[2]


class NodeProcess:
    """What the kubelet would run of a Pod, with the image's entry point."""

    def __init__(self, server: ApiServer, namespace: str, pod: dict[str, Any], home: Path) -> None:
        (container,) = pod["spec"]["containers"]
        self.name: str = pod["metadata"]["name"]
        self.port = free_port()
        self._probe = container["readinessProbe"]["httpGet"]["path"]
        files = home / self.name
        mounted = {each["name"]: files / each["mountPath"].strip("/") for each in container["volumeMounts"]}
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                _write_secret(server, namespace, volume["secret"], mounted[volume["name"]])
        account = files / "account"
        account.mkdir(parents=True)
        (account / "token").write_text(server.token_of(namespace, pod["spec"]["serviceAccountName"]))
        (account / "ca.crt").write_bytes(server.authority.read_bytes())
        api = urlsplit(server.url)
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
            **{each["name"]: _value(each, self.name, files) for each in container["env"]},
            # What the kubelet and the network of a cluster add.
            "KUBERNETES_SERVICE_HOST": str(api.hostname),
            "KUBERNETES_SERVICE_PORT": str(api.port),
            "SERVICE_ACCOUNT_DIR": str(account),
            "NODE_HOST": "127.0.0.1",
            "NODE_PORT": str(self.port),
        }
        self.log = home / f"{self.name}.log"
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fleet", *container["args"]],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def is_ready(self) -> bool:
        """What the readiness probe says."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + self._probe) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            assert self._process.poll() in (None, 0), self.log.read_text()[-2000:]
            return False

    @property
    def url(self) -> str:
        """Where health and metrics are."""
        return f"http://127.0.0.1:{self.port}"

    def terminate(self) -> None:
        """As the kubelet does at first."""
        self._process.terminate()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it for good."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _value(entry: dict[str, Any], pod: str, files: Path) -> str:
    if "value" not in entry:
        assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        return pod
    value: str = entry["value"]
    return str(files / value.strip("/")) if value.startswith("/etc/workernode/") else value


def _write_secret(server: ApiServer, namespace: str, volume: dict[str, Any], directory: Path) -> None:
    data = server.ask("GET", f"/api/v1/namespaces/{namespace}/secrets/{volume['secretName']}")["data"]
    directory.mkdir(parents=True)
    for item in volume["items"]:
        (directory / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))
