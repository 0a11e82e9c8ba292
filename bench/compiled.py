"""The compiled provider (bench/compiled_upstream, in Go): built once into the cache, run as a process of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.fleet_processes import ROOT, NotReady

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = ROOT / "bench" / "compiled_upstream"


def build() -> Path:
    """The program, named after its sources. Raises :class:`bench.fleet_processes.NotReady` without Go."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))).hexdigest()[:16]
    cache = os.environ.get("WORKERNODE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "workernode")
    program = Path(cache).expanduser() / "bench-upstream" / digest / "upstream"
    if not program.exists():
        if shutil.which("go") is None:
            raise NotReady("The compiled upstream needs Go to be built.")
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCES, check=True)
    return program


@contextmanager
def running() -> Iterator[str]:
    """Its base URL, with ``/v1``."""
    with subprocess.Popen([build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip() + "/v1"
        process.stdin.close()  # that is how it is told to end
