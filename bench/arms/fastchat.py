"""FastChat: its API server and its controller as its documentation starts them, and a worker that answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.arm import FASTCHAT, Arm
from bench.environment import environment, version
from bench.fleet_processes import MODEL
from bench.process import free_ports

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses

WORKER = Path(__file__).with_name("fastchat_worker.py")
ENV = {"LOGDIR": ""}  # no files of logs


def start(fleet: FleetProcesses) -> Arm:
    """Three processes. Raises :class:`bench.process.NotReady` also if their environment cannot be made."""
    python = str(environment("fastchat"))
    ports = free_ports(3)
    controller_url, _, worker_url = (f"http://127.0.0.1:{port}" for port in ports)
    command = [python, "-m", "fastchat.serve.controller", "--host", "127.0.0.1", "--port", str(ports[0])]
    controller = fleet.start("controller", command, ENV, [ports[0]])
    controller.wait_until_ready([(ports[0], "/docs")])
    # Without -P the file's own directory, where this file has the package's name, would come before the package.
    worker = fleet.start("worker", [python, "-P", str(WORKER), controller_url, worker_url, MODEL], ENV, [ports[2]])
    worker.wait_until_ready([(ports[2], "/docs")])
    command = [python, "-m", "fastchat.serve.openai_api_server", "--host", "127.0.0.1", "--port", str(ports[1])]
    server = fleet.start("API server", [*command, "--controller-address", controller_url], ENV, [ports[1]])
    server.wait_until_ready([(ports[1], "/v1/models")])
    return Arm(FASTCHAT, server.url, f"FastChat {version('fastchat', 'fschat')}", [server, controller, worker])
