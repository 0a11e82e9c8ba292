"""Pods of deploy/k8s as processes of this machine: their own arguments, settings and Secrets, without a kubelet."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.kube.account import mounted
from tests.kube.manifests import ROOT, one

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kube.api_server import ApiServer
    from tests.kube.manifests import Manifest

NAMESPACE = "workernode"


class ClusterPods:
    """What the kubelet would make of an overlay's objects. ``here`` is put in place of settings that name a place."""

    def __init__(self, server: ApiServer, objects: list[Manifest], home: Path, here: dict[str, str]) -> None:
        self._server = server
        self._objects = objects
        self._home = home
        self._here = here
        self._running: list[subprocess.Popen[bytes]] = []

    def secret(self, name: str) -> dict[str, bytes]:
        """The entries of a Secret. Raises :class:`tests.kube.api_server.Refused`."""
        data = self._server.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}")["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def once(self, template: Manifest, container: Manifest) -> str:
        """Run a container to its end, and return what it says."""
        files = self._home / container["name"]
        command = [sys.executable, "-m", "fleet", *container["args"]]
        env = self._environment(template, container, files)
        ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def start(self, deployment: str, **more: str) -> Path:
        """Start a Deployment's container; its log."""
        template = one(self._objects, "Deployment", deployment)["spec"]["template"]
        (container,) = template["spec"]["containers"]
        env = self._environment(template, container, self._home / deployment) | more
        log = self._home / f"{deployment}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "fleet", *container["args"]]
            self._running.append(
                subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)
            )
        return log

    def stop(self) -> None:
        """End all."""
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _environment(self, template: Manifest, container: Manifest, files: Path) -> dict[str, str]:
        files.mkdir()
        env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        for source in container.get("envFrom", ()):
            env |= one(self._objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container.get("env", ()):
            env[entry["name"]] = self._value(entry)
        for mount in container.get("volumeMounts", ()):
            self._mount(template, mount, files)
        # A path inside the Pod is one below this folder here.
        inside = tuple(mount["mountPath"] for mount in container.get("volumeMounts", ()))
        for name, value in env.items():
            for path in inside:
                env[name] = env[name].replace(f"{path}/", f"{files}{path}/") if path in value else env[name]
        if template["spec"]["automountServiceAccountToken"]:
            account = template["spec"]["serviceAccountName"]
            env |= mounted(self._server, NAMESPACE, account, files / "account")
        return env | {name: value for name, value in self._here.items() if name in env or name.endswith("HOST")}

    def _value(self, entry: dict[str, Any]) -> str:
        match entry:
            case {"value": str(value)}:
                return value
            case {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}:
                return self.secret(name)[key].decode()
            case {"valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}:
                return NAMESPACE
        raise AssertionError(f"the kubelet would know what to do with {entry}")

    def _mount(self, template: Manifest, mount: Manifest, files: Path) -> None:
        (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == mount["name"])
        folder = files / mount["mountPath"].strip("/")
        folder.mkdir(parents=True)
        if "secret" in volume:
            for name, value in self.secret(volume["secret"]["secretName"]).items():
                (folder / name).write_bytes(value)
