"""A real Redis (or Valkey) for tests: a server of our own on a free loopback port, with nothing on disk."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

_READY_S = 10.0
_LOOK_S = 0.02
_PROGRAMS = ("redis-server", "valkey-server")


class RedisMissing(Exception):
    """The server is not on this machine."""


class RedisServer:
    """All calls block: inside a running loop use them through :func:`asyncio.to_thread`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.limits_url = f"async+redis://127.0.0.1:{self.port}"
        """What ``LIMITS_STORAGE_URL`` takes."""

    def start(self) -> None:
        """Start empty; returns once it answers. Raises :class:`RedisMissing`."""
        program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
        if program is None:
            raise RedisMissing("neither redis-server nor valkey-server is installed")
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            assert self._process.poll() is None, "the server of limits ended"
            assert time.monotonic() < deadline, "the server of limits does not answer"
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
