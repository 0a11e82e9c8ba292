"""On what, with what and from what a measurement was made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time

import msgspec
import psutil

from bench.process import ROOT

PACKAGES = (
    "aiohttp",
    "fastapi",
    "httptools",
    "msgspec",
    "pulsar-client",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
)
BUSY = 0.5
"""Load average per core from which on other work takes what is measured."""
QUIET_WAIT_S = 180.0
_POM = ROOT / "deploy" / "pulsar" / "pom.xml"


class Machine(msgspec.Struct, frozen=True):
    """What decides how fast anything is here."""

    system: str
    processor: str
    cores: int
    memory_mib: int
    python: str
    java: str | None
    pulsar: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """Only what is needed to compare figures: no name and no address."""
    pulsar = re.search(r"<pulsar\.version>(.+?)</", _POM.read_text(encoding="utf-8"))
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_mib=psutil.virtual_memory().total // 2**20,
        python=platform.python_version(),
        java=_java(),
        pulsar=pulsar[1] if pulsar else "",
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def load_average() -> float:
    """Of the last minute: what else this machine had to do, in cores."""
    return round(os.getloadavg()[0], 2)


def wait_until_quiet() -> None:
    """Wait until what ran before is out of the load average, for at most :data:`QUIET_WAIT_S`."""
    until = time.monotonic() + QUIET_WAIT_S
    while load_average() >= BUSY * (os.cpu_count() or 1) and time.monotonic() < until:
        time.sleep(1.0)


def today() -> str:
    """UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def commit() -> str:
    """The commit of this checkout, with ``+`` if files have changed since; empty outside one."""
    found = _output("git", "rev-parse", "--short=12", "HEAD")
    return found + "+" if found and _output("git", "status", "--porcelain") else found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _java() -> str | None:
    found = re.search(r'version "(.+?)"', _output("java", "-version"))
    return found[1] if found else None


def _output(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        return ""
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
