"""One fleet for all clients, and the programs that they are: each in the environment that scripts/clients makes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.fake_upstream import FakeUpstream
from tests.keys import Keys
from tests.missing import missing
from tests.processes import ROOT, Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "org/model"
WITHIN_S = 60.0


@dataclass(frozen=True)
class Served:
    """What somebody with a key knows of a fleet, and the provider behind it."""

    url: str
    key: str
    upstream: FakeUpstream
    model: str = MODEL


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Gateway, a remote node and management in one process, a key by ``fleet keys``, and a provider."""
    directory = tmp_path_factory.mktemp("clients")
    keys = Keys(f"sqlite+aiosqlite:///{directory}/ledger.db")
    key = await keys.create("client", "--model", MODEL)
    async with FakeUpstream() as upstream, Processes(directory, {"MODEL_NAME": MODEL}) as processes:
        fleet = await processes.everything(NODE_TYPE="remote", API_URL=upstream.url, DATABASE_URL=keys.url)
        yield Served(f"{fleet.url}/v1", key, upstream)


def place_of(kind: str) -> Path:
    """Where such clients are. Skips the test where they cannot be, or fails it with CI=true."""
    made = subprocess.run([ROOT / "scripts" / "clients", kind], capture_output=True, text=True, check=False)
    if made.returncode:
        missing(f"There are no clients in {kind}: {made.stderr.strip()}")
    return Path(made.stdout.strip())


@pytest.fixture(scope="session")
def python_place() -> Path:
    """The environment with clients in Python."""
    return place_of("python")


@pytest.fixture(scope="session")
def llamaindex_place() -> Path:
    """The environment with LlamaIndex, which wants an older openai than the others."""
    return place_of("llamaindex")


@pytest.fixture(scope="session")
def node_place() -> Path:
    """The folder with ``node_modules``."""
    return place_of("node")


async def run(served: Served, home: Path, *command: str | Path, **env: str) -> str:
    """What a program prints that is told of the fleet and has a home of its own. It must end well."""
    program = await asyncio.create_subprocess_exec(
        *command,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "BASE_URL": served.url,
            "KEY": served.key,
            "MODEL": served.model,
            **env,
        },
        cwd=home,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            out, err = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert program.returncode == 0, err.decode()
    return out.decode()


async def told(served: Served, home: Path, *command: str | Path) -> Any:
    """The JSON that a program prints in its last line."""
    return json.loads((await run(served, home, *command)).splitlines()[-1])
