"""A provider that none of us wrote: a mock of OpenAI's own API description, which refuses whatever that does not allow
and makes up whatever it allows as an answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
SETUP = HERE.parent.parent / "scripts" / "clients"
_READY_S = 60.0
_LOOK_S = 0.05


class MockMissing(Exception):
    """What the mock needs is not on this machine."""


class OpenAIMock:
    """All calls block."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "openai-mock.log"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """What a node would have as ``API_URL``: the description has no ``/v1`` in its paths."""
        return f"http://127.0.0.1:{self._port}/chat/completions"

    def start(self) -> None:
        """Returns once it answers. Raises :class:`MockMissing`."""
        setup = subprocess.run([SETUP, "mock"], capture_output=True, text=True, check=False, timeout=300)
        if setup.returncode:
            raise MockMissing(setup.stderr.strip())
        options = ["--host", "127.0.0.1", "--port", str(self._port), "--quiet", "--stream-interval=1"]
        with self._log.open("wb") as log:
            # A session of its own: it starts a process in its turn.
            self._process = subprocess.Popen(
                [f"{setup.stdout.strip()}/node_modules/.bin/steady", *options, HERE / "openai.json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the mock did not start: {self._log.read_text(encoding='utf-8')[-2000:]}")
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Kill it with what it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True
