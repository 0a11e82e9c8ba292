"""Virtual environments of other people's gateways: made from a lock with hashes, kept in the cache by its content."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click

from bench.compiled import cache
from bench.process import NotReady

LOCKS = Path(__file__).parent / "arms"
_HELD = ".held"


def environment(name: str) -> Path:
    """The Python in which an arm's lock is installed. Raises :class:`bench.process.NotReady` if that fails."""
    lock = LOCKS / f"{name}.txt"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = cache() / "environments" / f"{name}-{digest}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # two first runs at a time would spoil it
        if not (place / _HELD).exists():
            click.echo(f"Installing {name} into {place}, once; this may take a minute …", err=True)
            _make(place, lock)
            (place / _HELD).touch()
    return place / "bin" / "python"


def version(name: str, package: str = "") -> str:
    """The version of an arm's package, ``name`` by default, in its lock."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package or name)}(?:\[.*?\])?==(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def _make(place: Path, lock: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    python = str(place / "bin" / "python")
    # The lock is whole, so that nothing is left to resolve; and one of them has an override that pip would not take.
    wanted = ["install", "--no-deps", "--require-hashes", "--requirement", str(lock)]
    uv = shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
        _run([uv, "pip", *wanted, "--python", python])
    else:
        _run([sys.executable, "-m", "venv", str(place)])
        _run([python, "-m", "pip", "--disable-pip-version-check", *wanted])


def _run(command: list[str]) -> None:
    # How far it is, and why it failed, is told beside the result.
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False).returncode:
        raise NotReady(f"Its environment could not be made: {Path(command[0]).name} failed, its words stand above.")
