"""What a gateway and a node load: what they were not asked for costs them neither memory nor time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SERVE = """
import asyncio, sys
import fleet.__main__, gateway.__main__, gateway.role, broker.pulsar
from broker.memory import MemoryBroker
from gateway.settings import GatewaySettings
from process.settings import load

async def serve():
    stop = asyncio.Event()
    await gateway.role.run(load(GatewaySettings), MemoryBroker(), stop, ready=stop.set)

asyncio.run(serve())
print(*sys.modules)
"""
NODE = """
import asyncio, sys
import fleet.__main__, workernode.__main__, workernode.role, broker.pulsar
from broker.memory import MemoryBroker
from process.logging import set_up
from process.settings import load
from workernode.settings import NodeSettings

async def serve():
    stop = asyncio.Event()
    await workernode.role.run(load(NodeSettings), MemoryBroker(), stop, ready=stop.set)

set_up("error", form="json")
asyncio.run(serve())
print(*sys.modules)
"""
SUPERVISE = """
import sys
import fleet.__main__, gateway.__main__, gateway.processes.first
print(*sys.modules)
"""
DATABASE = {"sqlalchemy", "aiosqlite", "asyncpg", "sqlite3"}
TRACES = {"opentelemetry.sdk", "opentelemetry.exporter", "process.otel", "requests"}
"""The API alone comes with FastAPI, and does nothing."""
LIMITS = {"limits", "redis", "coredis", "valkey"}
OTHERS_ALONE = {
    "alembic",
    "aiohttp",
    "openai",
    "tenacity",
    "management",
    "workernode",
    "kubernetes",
    "jsonschema",
    "torch",
}
NEVER = {"pulsar", "_pulsar", "google", "fastavro"}
"""pulsar-client is for consumers that prefetch, and what it could bring along is for schemas of messages."""
FOR_PEOPLE = {"rich", "structlog"}
"""Colours of log lines."""
FOR_LOCAL_MODELS = {"psutil", "pynvml", "workernode.local.engine", "workernode.local.supervisor"}
SERVERS = {"fastapi", "starlette", "uvicorn", "jinja2"}


def packages(program: str, **env: str) -> set[str]:
    """The packages that a program has loaded in the end."""
    return {name.partition(".")[0] for name in words(program, **env)}


def words(program: str, **env: str) -> set[str]:
    """What a program prints: the modules that it has loaded in the end."""
    base = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**base, "PULSAR_URL": "memory:", "PORT": "0", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_a_gateway_without_a_database_loads_nothing_for_databases_and_limits() -> None:
    loaded = packages(SERVE)
    assert {"fastapi", "uvicorn", "gateway"} <= loaded
    assert not loaded & (DATABASE | LIMITS | OTHERS_ALONE | NEVER)


def test_a_gateway_with_a_database_neither_migrates_it_nor_loads_another_store_of_limits(tmp_path: Path) -> None:
    loaded = packages(SERVE, DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/keys.db")
    assert {"sqlalchemy", "aiosqlite", "limits"} <= loaded
    assert not loaded & ({"asyncpg", "redis", "coredis", "valkey"} | OTHERS_ALONE)


def test_a_remote_node_loads_nothing_for_databases_local_models_a_gateway_or_people() -> None:
    loaded = words(NODE, NODE_TYPE="remote", MODEL_NAME="m", API_URL="http://127.0.0.1:9/v1", NODE_PORT="0")
    assert {"workernode.remote.engine", "aiohttp", "broker.pulsar.broker"} <= loaded
    unwanted = (
        DATABASE | LIMITS | NEVER | FOR_PEOPLE | FOR_LOCAL_MODELS | SERVERS | {"gateway", "management", "fleet.start"}
    )
    assert not loaded & unwanted


def test_the_first_of_several_processes_loads_nothing_that_serves() -> None:
    loaded = packages(SUPERVISE)
    assert not loaded & (
        {"fastapi", "starlette", "uvicorn", "httptools", "pulsar", "prometheus_client"} | DATABASE | LIMITS
    )


def test_a_gateway_loads_what_traces_need_only_where_they_are_wanted() -> None:
    assert not words(SERVE) & TRACES
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert words(SERVE, **to) >= TRACES
    assert not words(SERVE, **to, OTEL_TRACES_EXPORTER="none") & TRACES


def test_a_node_that_traces_nothing_loads_nothing_for_it() -> None:
    assert not words("import sys, workernode.__main__, workernode.remote.engine\nprint(*sys.modules)") & TRACES


def test_missing_libraries_for_traces_are_told_in_a_sentence() -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None
from gateway.settings import GatewaySettings
from process.settings import WrongSettings, load
from process.traces import open_traces
try:
    open_traces(load(GatewaySettings), "gateway", "gateway-1")
except WrongSettings as wrong:
    print(wrong)
"""
    told = words(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert {"'.[otel]'", "OTEL_EXPORTER_OTLP_ENDPOINT"} <= told
