"""One start of one role as a real process, from its first breath to its last."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil

from tests.in_process import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent
PORT_SETTINGS = {"gateway": "PORT", "node": "NODE_PORT", "management": "MANAGEMENT_PORT"}
READY_WAIT_S = 60.0


@dataclass
class Held:
    """What a process holds on to."""

    memory_bytes: int
    descriptors: int
    threads: int


class Life:
    """``name`` is unique in a run (``node-2.5`` is the fifth start of the third node); its output goes to a file."""

    def __init__(self, role: str, name: str, port: int, env: Mapping[str, str], log: Path, module: str) -> None:
        self.role, self.name, self.port, self.log = role, name, port, log
        self.url = f"http://127.0.0.1:{port}"
        self.died_at: float | None = None
        """Loop time of its death, unless it ended in order."""
        self.baseline: Held | None = None
        """What it held when it was ready."""
        base = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, role],
                cwd=ROOT,
                env={**base, **env, PORT_SETTINGS[role]: str(port)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Life {self.name} alive={self.alive}>"

    @property
    def alive(self) -> bool:
        """Whether the process runs. The first look after its death notes the time."""
        if self._process.poll() is None:
            return True
        if self.died_at is None:
            self.died_at = asyncio.get_running_loop().time()
        return False

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    async def ready(self) -> None:
        """Wait for ``/readyz`` to say so, or for the process to die on the way."""
        async with aiohttp.ClientSession() as session:

            async def is_ready() -> bool:
                if not self.alive:
                    return True
                try:
                    async with session.get(f"{self.url}/readyz") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(is_ready, within_s=READY_WAIT_S, every_s=0.05)
        if self.alive:
            self.baseline = self.held()

    async def page(self, path: str, *, key: str = "") -> str:
        """A page of its HTTP server as text; empty if it is not there."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}", headers=headers) as answer:
                return await answer.text()
        except aiohttp.ClientError:
            return ""

    def held(self) -> Held:
        """What it holds now."""
        process = psutil.Process(self._process.pid)
        return Held(process.memory_info().rss, process.num_fds(), process.num_threads())

    def kill(self) -> None:
        """SIGKILL, and wait for it to be gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self.died_at is None:
            self.died_at = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        """SIGTERM, and wait for the orderly end: that is no death."""
        if self._process.poll() is None:
            self._process.terminate()
        await until(lambda: self._process.poll() is not None, within_s=30)


@dataclass
class Slot:
    """A place in the fleet where one life follows the other, at the same address."""

    role: str
    name: str
    env: dict[str, str]
    module: str = "fleet"
    """What is run: ``python -m MODULE ROLE``."""
    port: int = field(default_factory=free_port)
    lives: list[Life] = field(default_factory=list)

    @property
    def now(self) -> Life:
        """The latest life."""
        return self.lives[-1]

    def start(self, directory: Path, **env: str) -> Life:
        """Begin the next life; :meth:`Life.ready` waits for it."""
        name = f"{self.name}.{len(self.lives)}"
        # A node shows its name to the provider as its key, so that its executions are known as its own.
        own: dict[str, Any] = {"API_KEY": name} if self.role == "node" else {}
        life = Life(self.role, name, self.port, {**self.env, **own, **env}, directory / f"{name}.log", self.module)
        self.lives.append(life)
        return life
