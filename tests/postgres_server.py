"""A real PostgreSQL for tests: a server of our own on a free loopback port, with a database for each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from uuid import uuid4

_READY_S = 30.0
_LOOK_S = 0.05
_USER = "postgres"
_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=100"


class PostgresMissing(Exception):
    """What the server needs is not on this machine."""


class PostgresServer:
    """All calls block: inside a running loop use them through :func:`asyncio.to_thread`."""

    def __init__(self) -> None:
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def start(self) -> None:
        """Start on what data there is; returns once it answers. Raises :class:`PostgresMissing`."""
        binaries = programs()
        if self._home is None:
            # Not under pytest's own directory, which no other user may enter: the server refuses to be run by root.
            self._home = Path(tempfile.mkdtemp(prefix="workernode-postgres-"))
            if os.geteuid() == 0:
                if shutil.which("runuser") is None:
                    raise PostgresMissing("PostgreSQL does not run as root, and there is no runuser")
                shutil.chown(self._home, _USER)
            initdb = [binaries / "initdb", "-D", self._data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
            subprocess.run(_as_user(*initdb), check=True, capture_output=True, cwd=self._home, timeout=60)
        command = _as_user(binaries / "postgres", "-D", self._data, "-p", self.port, "-k", self._home, *_FAST.split())
        with (self._home / "log").open("ab") as log:
            # A session of its own: a kill reaches the server and its children, and nothing else.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._home, start_new_session=True, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _READY_S
        while self._ask(binaries, "SELECT 1") != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = (self._home / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
                raise AssertionError(f"PostgreSQL did not start: {told}")
            time.sleep(_LOOK_S)

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{uuid4().hex[:12]}"
        assert self._ask(programs(), f"CREATE DATABASE {name}") == 0
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/{name}"

    def kill(self) -> None:
        """End it as a power cut would; its data stays."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._wait_until_gone()

    def _wait_until_gone(self) -> None:
        # Its parent was killed first: somebody else collects it, in a moment, and until then its data is taken.
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
            deadline = time.monotonic() + _READY_S
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(_LOOK_S)

    def stop(self) -> None:
        """End it; nobody needs its data any more."""
        self.kill()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _data(self) -> Path:
        assert self._home is not None
        return self._home / "data"

    def _ask(self, binaries: Path, statement: str) -> int:
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-d", "postgres"]
        asked = subprocess.run([binaries / "psql", *place, "-qc", statement], capture_output=True, check=False)
        return asked.returncode


def programs() -> Path:
    """Where the server's programs are: on the path, or where Debian puts them."""
    if (found := shutil.which("postgres")) is not None:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not places:
        raise PostgresMissing("PostgreSQL is not installed")
    return places[-1].parent


def _as_user(*command: object) -> list[str]:
    words = [str(word) for word in command]
    return ["runuser", "-u", _USER, "--", *words] if os.geteuid() == 0 else words
