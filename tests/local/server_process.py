"""A model server as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

START_S = 100.0


class ServerProcess:
    """Started with flags; :meth:`stop` ends it with SIGTERM."""

    def __init__(self, model: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "workernode.local.server", "--model", str(model), "--threads", "1", *flags]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url = json.loads(line)["listening"] if line else ""

    @property
    def pid(self) -> int:
        """Of the HTTP process."""
        return self._process.pid

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def post(self, path: str, fields: Any) -> tuple[int, Any]:
        """Status and what the JSON says."""
        request = urllib.request.Request(self.url + path, json.dumps(fields).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def until_ready(self) -> ServerProcess:
        """Wait for the model. One that does not come in time is left to nobody."""
        try:
            asyncio.run(until(lambda: self.get("/health")[0] == 200, within_s=START_S, every_s=0.1))
        except BaseException:
            self.stop()
            raise
        return self

    def ended(self) -> tuple[int, dict[str, str]]:
        """Its exit code when it ends by itself, and the last line."""
        _, errors = self._process.communicate(timeout=START_S)
        return self._process.returncode, json.loads(errors.strip().split("\n")[-1])

    def stop(self) -> int:
        """Its exit code."""
        self._process.terminate()
        self._process.communicate(timeout=20)
        return self._process.returncode
