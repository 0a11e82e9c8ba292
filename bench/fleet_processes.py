"""The processes that are measured: started on free loopback ports with data of their own, ended by their ids."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.answer import MODEL

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parent.parent
BROKER = ROOT / "deploy" / "pulsar" / "run"

READY_WAIT_S = 60.0
BROKER_FETCH_WAIT_S = 600.0
"""The very first start of a broker fetches it."""
STOP_WAIT_S = 5.0
_LOOK_S = 0.01
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "JAVA_HOME", "WORKERNODE_CACHE", "XDG_CACHE_HOME")


class NotReady(Exception):
    """A process ended, or was not ready in time. The message has its last words."""


class Process:
    """One process, in a group of its own so that Ctrl-C reaches only us, with its output in a file."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], ports: list[int], log: Path) -> None:
        self.name = name
        self.ports = ports
        self.ready_s = 0.0
        """From the start of the process until every page of :meth:`wait_until_ready` was good."""
        self._log = log
        self._began = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**{key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._measured = psutil.Process(self._process.pid)

    @property
    def url(self) -> str:
        """Of the first port."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def resident_bytes(self) -> int:
        return int(self._measured.memory_info().rss)

    @property
    def cpu_s(self) -> float:
        """Processor time so far, in the kernel too; the system counts it in steps of 10 ms."""
        times = self._measured.cpu_times()
        return float(times.user + times.system)

    def wait_until_ready(self, pages: list[tuple[int, str]], within_s: float = READY_WAIT_S) -> None:
        """Return when each (port, path) answers with 200, and note how long it took. Raises :class:`NotReady`."""
        self.wait_for(pages, within_s)
        self.ready_s = time.perf_counter() - self._began

    def wait_for(self, pages: list[tuple[int, str]], within_s: float = READY_WAIT_S) -> None:
        """Return when each (port, path) answers with 200. Raises :class:`NotReady`."""
        deadline = time.perf_counter() + within_s
        for port, path in pages:
            while not _is_good(port, path):
                if self._process.poll() is not None:
                    raise NotReady(f"{self.name} ended with status {self._process.returncode}: {self._last_words()}")
                if time.perf_counter() > deadline:
                    raise NotReady(f"{self.name} was not ready within {within_s:.0f} s: {self._last_words()}")
                time.sleep(_LOOK_S)

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WAIT_S)
        self.kill()

    def kill(self) -> None:
        """Kill it with whatever it started, and wait until it is gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])


class FleetProcesses:
    """Starts what is measured. Leaving the block kills all of it and removes its data."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="workernode-bench-"))
        self._started: list[Process] = []
        self._common: dict[str, str] = {"MODEL_NAME": MODEL}

    def __enter__(self) -> FleetProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._started):
            process.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def upstream(self, pace_ms: float) -> Process:
        """The provider of all remote nodes that are started after it."""
        port = free_ports(1)[0]
        command = [sys.executable, "-m", "bench.upstream", "--port", str(port), "--pace-ms", str(pace_ms)]
        process = self._start("upstream", command, {}, [port])
        process.wait_until_ready([(port, "/")])
        self._common["API_URL"] = f"{process.url}/v1"
        return process

    def broker(self) -> Process:
        """A standalone Pulsar, for all roles that are started after it."""
        port, admin = free_ports(2)
        data = self._home / "pulsar"
        env = {"PULSAR_PORT": str(port), "PULSAR_ADMIN_PORT": str(admin), "PULSAR_DATA": str(data)}
        process = self._start("broker", [str(BROKER)], env, [admin, port])
        pages = [(admin, "/admin/v2/brokers/health"), (admin, "/admin/v2/namespaces/public/default")]
        process.wait_until_ready(pages, BROKER_FETCH_WAIT_S)
        self._common["PULSAR_URL"] = f"pulsar://127.0.0.1:{port}"
        return process

    @property
    def pulsar_url(self) -> str:
        """Of the broker that was started."""
        return self._common["PULSAR_URL"]

    def gateway(self) -> Process:
        """A ready gateway."""
        return self._role("gateway", "gateway", {"PORT": free_ports(1)[0]})

    def management(self, **env: str) -> Process:
        """A ready management, with a database of its own unless it is given one."""
        return self._role("management", "management", {"MANAGEMENT_PORT": free_ports(1)[0]}, **env)

    def node(self, kind: str) -> Process:
        """A ready node, static or remote. A static one serves a model of its own, so that it takes no one's work."""
        model = MODEL if kind == "remote" else kind
        return self._role(f"node, {kind}", "node", {"NODE_PORT": free_ports(1)[0]}, NODE_TYPE=kind, MODEL_NAME=model)

    def embedded(self) -> Process:
        """A ready ``fleet up`` with a remote node: all three roles in one process."""
        ports = dict(zip(("PORT", "NODE_PORT", "MANAGEMENT_PORT"), free_ports(3), strict=True))
        return self._role("fleet up", "up", ports, NODE_TYPE="remote")

    def _role(self, name: str, role: str, ports: dict[str, int], **env: str) -> Process:
        env |= {setting: str(port) for setting, port in ports.items()}
        if role in ("management", "up"):  # a gateway that had it too would look for keys there
            env.setdefault("DATABASE_URL", f"sqlite+aiosqlite:///{self._home}/ledger-{len(self._started)}.db")
        process = self._start(name, [sys.executable, "-m", "fleet", role], self._common | env, list(ports.values()))
        process.wait_until_ready([(port, "/readyz") for port in process.ports])
        return process

    def _start(self, name: str, command: list[str], env: dict[str, str], ports: list[int]) -> Process:
        process = Process(name, command, env, ports, self._home / f"{len(self._started)}.log")
        self._started.append(process)
        return process


def wait_for_model(gateway: Process) -> None:
    """Return when a gateway knows a ready node of the model. Raises :class:`NotReady`."""
    gateway.wait_for([(gateway.ports[0], f"/v1/models/{MODEL}")])


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _is_good(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
