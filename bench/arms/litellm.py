"""LiteLLM's proxy, as its documentation says for production: one worker, no database, no debugging output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.arm import LITELLM, Arm
from bench.environment import environment, version
from bench.fleet_processes import MODEL
from bench.process import free_ports

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses

READY_WAIT_S = 180.0
ENV = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the internet at its start
}


def config(api_url: str) -> str:
    """Its configuration, in JSON, which is YAML too."""
    upstream = {"model": f"openai/{MODEL}", "api_base": api_url, "api_key": "unused"}
    return json.dumps(
        {
            "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
            "litellm_settings": {"set_verbose": False},
            # Without a key it does less for each request.
            "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        }
    )


def start(fleet: FleetProcesses) -> Arm:
    """One process. Raises :class:`bench.process.NotReady` also if its environment cannot be made."""
    python = environment("litellm")
    port = free_ports(1)[0]
    written = fleet.home / "litellm.yaml"
    written.write_text(config(fleet.api_url), encoding="utf-8")
    command = [str(python.with_name("litellm")), "--config", str(written), "--host", "127.0.0.1", "--port", str(port)]
    process = fleet.start("litellm", [*command, "--num_workers", "1", "--telemetry", "False"], ENV, [port])
    process.wait_until_ready([(port, "/health/liveliness")], READY_WAIT_S)
    return Arm(LITELLM, process.url, f"LiteLLM {version('litellm')}", [process])
