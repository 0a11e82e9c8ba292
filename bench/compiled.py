"""The compiled programs (bench/programs, in Go): built once into the cache; the provider as a process of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.process import ROOT, NotReady

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = ROOT / "bench" / "programs"


def cache() -> Path:
    """Where what is built or fetched for benchmarks is kept from run to run."""
    kept = os.environ.get("WORKERNODE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "workernode")
    return Path(kept).expanduser() / "bench"


def build(name: str) -> Path:
    """The program ``upstream`` or ``load``. Raises :class:`bench.process.NotReady` if it cannot be built."""
    sources = [path for path in sorted(SOURCES.rglob("*")) if path.is_file()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    program = cache() / "programs" / digest / name
    if not program.exists():
        if shutil.which("go") is None:
            raise NotReady("The compiled programs of the benchmarks need Go to be built.")
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        done = subprocess.run(["go", "build", "-o", fresh, f"./{name}"], cwd=SOURCES, capture_output=True, text=True)
        if done.returncode:
            raise NotReady(f"{name} could not be built: {done.stderr.strip()}")
        fresh.replace(program)
    return program


@contextmanager
def running() -> Iterator[str]:
    """The provider's base URL, with ``/v1``."""
    with subprocess.Popen([build("upstream")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip() + "/v1"
        process.stdin.close()  # that is how it is told to end
