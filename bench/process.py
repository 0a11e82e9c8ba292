"""One process of a measurement: started on free loopback ports, ended by its id."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from bench import process_tree

ROOT = Path(__file__).parent.parent

READY_WAIT_S = 60.0
STOP_WAIT_S = 5.0
_LOOK_S = 0.01
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "JAVA_HOME", "WORKERNODE_CACHE", "XDG_CACHE_HOME")


class NotReady(Exception):
    """A process ended, or was not ready in time. The message has its last words."""


class Process:
    """One process with its children, in a group of its own so that Ctrl-C reaches us alone. A file has its output."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], ports: list[int], log: Path) -> None:
        self.name = name
        self.ports = ports
        self.ready_s = 0.0
        """From the start of the process until every page of :meth:`wait_until_ready` was good."""
        self._log = log
        self._began = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**{key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}, **env},
                stdin=subprocess.PIPE,  # which ends with us, and the compiled programs with it
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        """Of the first port."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def resident_bytes(self) -> int:
        """Of the whole tree. Raises :class:`psutil.NoSuchProcess` when it has ended."""
        return process_tree.resident_bytes(self._process.pid)

    @property
    def files(self) -> int:
        """Open file descriptors of the whole tree. Raises :class:`psutil.NoSuchProcess` when it has ended."""
        return process_tree.files(self._process.pid)

    @property
    def cpu_s(self) -> float:
        """Processor time of the whole tree so far, in the kernel too; the system counts it in steps of 10 ms."""
        return process_tree.cpu_s(self._process.pid)

    def wait_until_ready(self, pages: list[tuple[int, str]], within_s: float = READY_WAIT_S) -> None:
        """Return when each (port, path) answers with 200, and note how long it took. Raises :class:`NotReady`."""
        self.wait_for(pages, within_s)
        self.ready_s = time.perf_counter() - self._began

    def wait_for(self, pages: list[tuple[int, str]], within_s: float = READY_WAIT_S) -> None:
        """Return when each (port, path) answers with 200. Raises :class:`NotReady`."""
        deadline = time.perf_counter() + within_s
        for port, path in pages:
            while not _is_good(port, path):
                if self._process.poll() is not None:
                    raise NotReady(f"{self.name} ended with status {self._process.returncode}: {self._last_words()}")
                if time.perf_counter() > deadline:
                    raise NotReady(f"{self.name} was not ready within {within_s:.0f} s: {self._last_words()}")
                time.sleep(_LOOK_S)

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WAIT_S)
        self.kill()

    def kill(self) -> None:
        """Kill it with whatever it started, and wait until it is gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _is_good(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
