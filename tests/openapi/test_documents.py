"""The OpenAPI documents are true: schemathesis asks everything that they allow, and much that they do not, of a real
fleet, and holds every answer against them. What it asks is the same each time."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.in_process import free_port
from tests.processes import Processes
from tests.raw_http import exchange, get
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
CONFIG = {"gateway": "schemathesis.toml", "management": "management.toml"}
KEY = "sk-documented-0123456789"
PROGRAM = Path(sysconfig.get_path("scripts")) / "schemathesis"


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    """Gateway, a static node and management in one process, with one key for all."""
    management = free_port()
    settings = {
        "API_KEYS": KEY,
        "MANAGEMENT_KEY": KEY,
        "MANAGEMENT_TRUSTED_PROXIES": "127.0.0.1",
        "STORE_PROMPTS": "true",
        "DEFAULT_MODEL": "static",  # so that a request without a model is a good one, as the document says
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/ledger.db",
    }
    async with Processes(tmp_path, settings) as processes:
        gateway = (await processes.everything(MANAGEMENT_PORT=str(management))).port

        async def listens() -> bool:
            try:
                return (await exchange(management, get("/readyz"))).status == 200
            except OSError:
                return False

        await until(listens)
        yield {"gateway": gateway, "management": management}


async def test_what_the_documents_say_is_so(ports: dict[str, int], tmp_path: Path) -> None:
    request_id = await answered(ports)
    for code, told in await asyncio.gather(*(tried(role, port, tmp_path, request_id) for role, port in ports.items())):
        assert code == 0, told


async def answered(ports: dict[str, int]) -> str:
    """A request of which management knows all that it can."""
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": "static", "messages": [{"role": "user", "content": "hello"}]}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"http://127.0.0.1:{ports['gateway']}/v1/chat/completions", json=body) as response:
            request_id = response.headers["x-request-id"]

        async def stored() -> bool:
            url = f"http://127.0.0.1:{ports['management']}/api/v1/requests/{request_id}/prompt"
            async with session.get(url) as response:
                return response.status == 200

        await until(stored)
    return request_id


async def tried(role: str, port: int, directory: Path, request_id: str) -> tuple[int | None, str]:
    """The exit code of schemathesis, and what it found."""
    document = directory / f"{port}.json"
    answer = await exchange(port, get("/openapi.json", f"authorization: Bearer {KEY}"))
    assert answer.status == 200
    document.write_bytes(answer.body)
    program = await asyncio.create_subprocess_exec(
        PROGRAM,
        *("--config-file", str(HERE / CONFIG[role])),
        *("run", str(document), "--url", f"http://127.0.0.1:{port}"),
        env={**os.environ, "HOOKS": str(HERE / "hooks.py"), "KEY": KEY, "REQUEST_ID": request_id},
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await program.communicate()
    return program.returncode, out.decode()
