"""Roles as real processes, for tests that kill them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from tests.in_process import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parent.parent


class Process:
    """``python -m fleet ROLE`` in a process group of its own; its output goes to a file."""

    def __init__(self, role: str, env: dict[str, str], log: Path, port_setting: str) -> None:
        self.role = role
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        base = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fleet", role],
                cwd=ROOT,
                env={**base, **env, port_setting: str(self.port)},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    async def ready(self, within_s: float = 30.0) -> None:
        """Wait for ``/readyz`` to say so."""
        async with aiohttp.ClientSession() as session:

            async def is_ready() -> bool:
                assert self._process.poll() is None, f"{self.role} ended: {self.log.read_text()[-2000:]}"
                try:
                    async with session.get(f"{self.url}/readyz") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(is_ready, within_s=within_s, every_s=0.05)

    def kill(self) -> None:
        """SIGKILL, and wait for the process to be gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def stop(self, within_s: float = 20.0) -> int:
        """SIGTERM, and the exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        await until(lambda: self._process.poll() is not None, within_s=within_s)
        return self._process.returncode


class Processes:
    """Starts processes of one fleet and kills what is left in the end."""

    def __init__(self, directory: Path, common: dict[str, str]) -> None:
        self._directory = directory
        self.common = common
        self.model = common.get("MODEL_NAME", "static")
        self._started: list[Process] = []

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()

    def started(self, role: str) -> list[Process]:
        """All processes of a role, dead ones too."""
        return [process for process in self._started if process.role == role]

    async def everything(self, **env: str) -> Process:
        """Gateway, node and management in one process, on the embedded broker; its URL is the gateway's."""
        ports = {"NODE_PORT": str(free_port()), "MANAGEMENT_PORT": str(free_port())}
        return await self._start("up", "PORT", ports | env)

    async def gateway(self, **env: str) -> Process:
        """A ready gateway."""
        return await self._start("gateway", "PORT", env)

    async def node(self, **env: str) -> Process:
        """A ready node."""
        return await self._start("node", "NODE_PORT", env)

    async def management(self, **env: str) -> Process:
        """A ready management."""
        return await self._start("management", "MANAGEMENT_PORT", env)

    async def _start(self, role: str, port_setting: str, env: dict[str, str]) -> Process:
        log = self._directory / f"{role}-{len(self._started)}.log"
        process = await asyncio.to_thread(Process, role, {**self.common, **env}, log, port_setting)
        self._started.append(process)
        await process.ready()
        return process
