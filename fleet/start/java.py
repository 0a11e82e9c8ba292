"""Java and Maven: whether they are there and work."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet.start.ending import CannotStart, Ending

PROBE_WAIT_S = 20.0
OLDEST = 17
"""The version of Java that Apache Pulsar 4 needs."""


def require_java(env: Mapping[str, str]) -> None:
    """Raise CannotStart when there is no working Java."""
    home = env.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else "java"
    remedy = "install OpenJDK 17 or later (Debian: `apt-get install default-jre-headless`), or use --pulsar embedded"
    said = _require(program, "-version", f"Java does not run ({program})", remedy, env)
    # openjdk version "17.0.13" …; those before 9 begin with 1.
    version = re.search(r'version "(\d+)', said)
    if version is not None and int(version[1]) < OLDEST:
        raise CannotStart(Ending.TOOL, f"Java is too old ({program} is version {version[1]}): {remedy}")


def require_maven(env: Mapping[str, str]) -> None:
    """Raise CannotStart when there is no working Maven."""
    remedy = "install Maven (Debian: `apt-get install maven`), or use --pulsar embedded"
    _require("mvn", "-version", "Maven does not run (mvn)", remedy, env)


def _require(program: str, argument: str, problem: str, remedy: str, env: Mapping[str, str]) -> str:
    try:
        # It is run, not only looked up: on macOS `java` exists as a stub that asks to install Java.
        ran = subprocess.run((program, argument), env=dict(env), capture_output=True, timeout=PROBE_WAIT_S, check=True)
        return (ran.stdout + ran.stderr).decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        raise CannotStart(Ending.TOOL, f"{problem}: {remedy}") from None
