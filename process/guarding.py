"""A guard beside this process, which ends the children of one that was killed: see :mod:`process.guard`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path


class Guard:
    """Knows the process groups that must not outlive this process. ``stop_wait_s`` is what they get between SIGTERM
    and SIGKILL."""

    def __init__(self, stop_wait_s: float) -> None:
        script = str(Path(__file__).with_name("guard.py"))
        self._process = subprocess.Popen(
            (sys.executable, "-I", "-S", script, str(stop_wait_s)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The guard's own process."""
        return self._process.pid

    def started(self, group: int) -> None:
        """A child was started as the leader of this process group."""
        self._tell(started=group)

    def ended(self, group: int) -> None:
        """That group is gone."""
        self._tell(ended=group)

    def undo(self, command: tuple[str, ...]) -> None:
        """A command to run after the children have ended, for what they leave behind."""
        self._tell(undo=command)

    def release(self) -> None:
        """Everything was cleaned up; the guard goes."""
        self._tell(done=True)
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, **message: object) -> None:
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()
