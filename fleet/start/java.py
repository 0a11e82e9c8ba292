"""Java and Maven: whether they are there and work."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet.start.ending import CannotStart, Ending

PROBE_WAIT_S = 20.0


def require_java(env: Mapping[str, str]) -> None:
    """Raise CannotStart when there is no working Java."""
    home = env.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else "java"
    remedy = "install OpenJDK 17 or later (Debian: `apt-get install default-jre-headless`), or use --pulsar embedded"
    _require(program, "-version", f"Java does not run ({program})", remedy, env)


def require_maven(env: Mapping[str, str]) -> None:
    """Raise CannotStart when there is no working Maven."""
    remedy = "install Maven (Debian: `apt-get install maven`), or use --pulsar embedded"
    _require("mvn", "-version", "Maven does not run (mvn)", remedy, env)


def _require(program: str, argument: str, problem: str, remedy: str, env: Mapping[str, str]) -> None:
    try:
        # It is run, not only looked up: on macOS `java` exists as a stub that asks to install Java.
        subprocess.run((program, argument), env=dict(env), capture_output=True, timeout=PROBE_WAIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        raise CannotStart(Ending.TOOL, f"{problem}: {remedy}") from None
