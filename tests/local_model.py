"""A node with a local model whose engine is a stand-in: how it is started, and what became of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from pathlib import Path

STAND_IN = f"{sys.executable} -m tests.stand_in_engine"


class LocalModel:
    """The directory by which stand-ins are told how to be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def command(self, *flags: str) -> dict[str, str]:
        """Settings of a node whose engine is any command line."""
        line = " ".join((STAND_IN, "--port {port}", "--slots {slots}", *flags))
        return {"NODE_TYPE": "local", "LOCAL_ENGINE": "command", "LOCAL_COMMAND": line}

    def program(self, engine: str, **env: str) -> dict[str, str]:
        """Settings of a node whose engine's program is a stand-in."""
        path = self.directory / engine
        path.write_text(f'{"" if engine == "llamafile" else "#!/bin/sh"}\nexec {STAND_IN} "$@"\n')
        path.chmod(0o755)
        model = str(path) if engine == "llamafile" else "/models/some.gguf"
        program = {} if engine == "llamafile" else {"LOCAL_PROGRAM": str(path)}
        return {"NODE_TYPE": "local", "LOCAL_ENGINE": engine, "MODEL_PATH": model, **program, **env}

    @property
    def starts(self) -> list[dict[str, Any]]:
        """What each stand-in has told of its start."""
        try:
            return [json.loads(line) for line in (self.directory / "starts").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @property
    def pid(self) -> int:
        """The latest one's."""
        pid: int = self.starts[-1]["pid"]
        return pid

    def kill(self) -> None:
        """SIGKILL to the latest one alone, not to what it started."""
        os.kill(self.pid, signal.SIGKILL)

    def say(self, name: str, text: str = "") -> None:
        """Write a file; without a text remove it."""
        path = self.directory / name
        if text:
            new = path.with_suffix(".new")
            new.write_text(text)
            new.rename(path)
        else:
            path.unlink(missing_ok=True)

    def left(self) -> list[int]:
        """Processes of stand-ins that still run."""
        pids = [pid for start in self.starts for pid in (start["pid"], start["worker"]) if pid is not None]
        return [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
