"""A real API server of Kubernetes with its etcd, on free loopback ports, for tests. Without a kubelet no Pod runs."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.in_process import free_port

_ROOT = Path(__file__).parents[2]
_READY_S = 60.0
_LOOK_S = 0.05


class ApiServerMissing(Exception):
    """What the API server needs is not on this machine."""


class ApiServer:
    """All calls block: inside a running loop use them through :func:`asyncio.to_thread`."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="workernode-kube-"))
        self.admin_token = secrets.token_hex(16)
        self._etcd_ports = free_port(), free_port()
        self._port = free_port()
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"https://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start both on what data there is; returns once the API is ready. Raises :class:`ApiServerMissing`."""
        program = _program()
        etcd = shutil.which("etcd")
        openssl = shutil.which("openssl")
        if etcd is None or openssl is None:
            raise ApiServerMissing(f"{'etcd' if etcd is None else 'openssl'} is not installed")
        key = self.home / "accounts.key"
        if not key.exists():
            subprocess.run([openssl, "genrsa", "-out", key, "2048"], check=True, capture_output=True, timeout=30)
            (self.home / "tokens.csv").write_text(f'{self.admin_token},admin,admin,"system:masters"\n')
        if self._etcd is None:
            self._etcd = self._run("etcd", etcd, *self._etcd_flags())
        self._server = self._run("kube-apiserver", str(program), *self._server_flags(key))
        self._wait_until_ready(self._server)

    def kill_server(self) -> None:
        """End the API server as a power cut would; etcd keeps what it had."""
        process, self._server = self._server, None
        _end(process)

    def stop(self) -> None:
        """End both; nobody needs their data any more."""
        self.kill_server()
        process, self._etcd = self._etcd, None
        _end(process)
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def authority(self) -> Path:
        """The certificate to trust."""
        return self.home / "certificates" / "apiserver.crt"

    def kubeconfig(self, token: str | None = None) -> Path:
        """A file with which clients come as the bearer of this token, the administrator's if there is none."""
        path = self.home / f"kubeconfig-{secrets.token_hex(4)}"
        one = {
            "clusters": [{"name": "it", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}],
            "users": [{"name": "it", "user": {"token": token or self.admin_token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "it", **one}))
        return path

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """The answer's JSON. Raises :class:`Refused`."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {token or self.admin_token}")
        request.add_header("Accept", accept)
        request.add_header("Content-Type", content)
        data = None if body is None else json.dumps(body).encode()
        trusted = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urllib.request.urlopen(request, data, timeout=20, context=trusted) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read().decode(errors="replace")) from None
        try:
            return json.loads(text)
        except ValueError:
            return text.decode()

    def token_of(self, namespace: str, account: str) -> str:
        """A service account's token, as the kubelet would ask for one."""
        wished = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token: str = self.ask("POST", path, wished)["status"]["token"]
        return token

    def _etcd_flags(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        flags = {
            "data-dir": self.home / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _server_flags(self, key: Path) -> list[str]:
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_ports[0]}",
            "secure-port": self._port,
            "bind-address": "127.0.0.1",
            "cert-dir": self.home / "certificates",
            "service-cluster-ip-range": "10.0.0.0/24",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "token-auth-file": self.home / "tokens.csv",
            "authorization-mode": "RBAC",
            # It would wait for accounts that only a controller manager makes.
            "disable-admission-plugins": "ServiceAccount",
            "profiling": "false",
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_S
        while not self._is_ready():
            if server.poll() is not None or time.monotonic() > deadline:
                told = (self.home / "kube-apiserver.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"The API server did not start: {told}")
            time.sleep(_LOOK_S)

    def _is_ready(self) -> bool:
        try:
            # RBAC's own roles come after readiness, and the default namespace a little later still.
            self.ask("GET", "/api/v1/namespaces/default")
            return bool(self.ask("GET", "/readyz") == "ok")
        except (OSError, Refused):
            return False


class Refused(Exception):
    """The API server's refusal: ``status`` is HTTP's, ``message`` what it says."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        try:
            self.message = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            self.message = text
        super().__init__(f"{status}: {self.message}")


def _program() -> Path:
    built = subprocess.run([_ROOT / "scripts" / "kube-apiserver"], capture_output=True, text=True, check=False)
    if built.returncode:
        raise ApiServerMissing(built.stderr.strip().splitlines()[-1] if built.stderr else "it cannot be built")
    return Path(built.stdout.strip())


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
