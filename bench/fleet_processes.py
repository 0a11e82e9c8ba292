"""The processes that are measured, with data of their own; all of them end with their block."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.compiled import build
from bench.process import ROOT, Process, free_ports

if TYPE_CHECKING:
    from types import TracebackType

MODEL = "bench"
BROKER = ROOT / "deploy" / "pulsar" / "run"
BROKER_FETCH_WAIT_S = 600.0
"""The very first start of a broker fetches it."""


class FleetProcesses:
    """Starts what is measured. Leaving the block kills all of it and removes its data."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="workernode-bench-"))
        """Where the data and the output of all of them are."""
        self.api_url = ""
        """Of the upstream that was started."""
        self.broker_data = self.home
        """Of the broker that was started last."""
        self._started: list[Process] = []
        self._common: dict[str, str] = {"MODEL_NAME": MODEL}

    def __enter__(self) -> FleetProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._started):
            process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def upstream(self) -> Process:
        """The provider of all that is started later. Raises :class:`bench.process.NotReady` if it cannot be built."""
        port = free_ports(1)[0]
        process = self.start("upstream", [str(build("upstream")), f"--listen=127.0.0.1:{port}"], {}, [port])
        process.wait_until_ready([(port, "/")])
        self.api_url = f"{process.url}/v1"
        self._common["API_URL"] = self.api_url
        return process

    def broker(self) -> Process:
        """A standalone Pulsar, for all roles that are started after it."""
        port, admin = free_ports(2)
        self.broker_data = self.home / f"pulsar-{len(self._started)}"
        env = {"PULSAR_PORT": str(port), "PULSAR_ADMIN_PORT": str(admin), "PULSAR_DATA": str(self.broker_data)}
        process = self.start("broker", [str(BROKER)], env, [admin, port])
        pages = [(admin, "/admin/v2/brokers/health"), (admin, "/admin/v2/namespaces/public/default")]
        process.wait_until_ready(pages, BROKER_FETCH_WAIT_S)
        self._common["PULSAR_URL"] = f"pulsar://127.0.0.1:{port}"
        return process

    @property
    def pulsar_url(self) -> str:
        """Of the broker that was started."""
        return self._common["PULSAR_URL"]

    def gateway(self, name: str = "gateway", **env: str) -> Process:
        """A ready gateway."""
        return self._role(name, "gateway", {"PORT": free_ports(1)[0]}, **env)

    def management(self, **env: str) -> Process:
        """A ready management, with a database of its own unless it is given one."""
        return self._role("management", "management", {"MANAGEMENT_PORT": free_ports(1)[0]}, **env)

    def node(self, kind: str, name: str = "", **env: str) -> Process:
        """A ready node, static or remote. A static one serves a model of its own, so that it takes no one's work."""
        env = {"MODEL_NAME": MODEL if kind == "remote" else kind, "NODE_TYPE": kind, **env}
        return self._role(name or f"{kind} node", "node", {"NODE_PORT": free_ports(1)[0]}, **env)

    def embedded(self) -> Process:
        """A ready ``fleet up`` with a remote node: all three roles in one process."""
        ports = dict(zip(("PORT", "NODE_PORT", "MANAGEMENT_PORT"), free_ports(3), strict=True))
        return self._role("fleet up", "up", ports, NODE_TYPE="remote")

    def _role(self, name: str, role: str, ports: dict[str, int], **env: str) -> Process:
        env |= {setting: str(port) for setting, port in ports.items()}
        if role in ("management", "up"):  # a gateway that had it too would look for keys there
            env.setdefault("DATABASE_URL", f"sqlite+aiosqlite:///{self.home}/ledger-{len(self._started)}.db")
        process = self.start(name, [sys.executable, "-m", "fleet", role], self._common | env, list(ports.values()))
        process.wait_until_ready([(port, "/readyz") for port in process.ports])
        return process

    def start(self, name: str, command: list[str], env: dict[str, str], ports: list[int]) -> Process:
        """Any process, which may not be ready yet. It is killed at the end of the block at the latest."""
        process = Process(name, command, env, ports, self.home / f"{len(self._started)}.log")
        self._started.append(process)
        return process


def wait_for_model(gateway: Process) -> None:
    """Return when a gateway knows a ready node of the model. Raises :class:`bench.process.NotReady`."""
    gateway.wait_for([(gateway.ports[0], f"/v1/models/{MODEL}")])
