"""What a Python server costs that does nothing: uvicorn with uvloop and httptools, and a fixed answer."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from bench.arm import ECHO, Arm
from bench.process import free_ports

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses

APP = "bench.arms.echo_app:app"


def start(fleet: FleetProcesses) -> Arm:
    """One process, which asks no upstream."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    process = fleet.start("echo", [*command, "--lifespan", "off", "--no-access-log"], {}, [port])
    process.wait_until_ready([(port, "/")])
    fixed = "its answer is fixed"
    cannot = {"paced-128": fixed, "slow-8": fixed, "hang-up-16": fixed}
    return Arm(ECHO, process.url, f"uvicorn {importlib.metadata.version('uvicorn')}", [process], cannot=cannot)
