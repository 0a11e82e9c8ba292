"""The Docker daemon: whether it answers, and names for what we start in it."""

import hashlib
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet.start.ending import CannotStart, Ending

PROBE_WAIT_S = 10.0
LABEL = "workernode.started-by=fleet-start"


def require_daemon(env: Mapping[str, str]) -> str:
    """The version of the daemon. A docker command alone proves nothing, so the daemon itself is asked.

    Raises CannotStart when it does not answer.
    """
    remedy = "start Docker (`sudo systemctl start docker`, or Docker Desktop), or start without it"
    try:
        asked = subprocess.run(
            ("docker", "version", "--format", "{{.Server.Version}}"),
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=PROBE_WAIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise CannotStart(Ending.TOOL, "docker was not found: install Docker, or start without it") from None
    except subprocess.TimeoutExpired:
        raise CannotStart(
            Ending.TOOL, f"the Docker daemon did not answer within {PROBE_WAIT_S:g} s: {remedy}"
        ) from None
    version = asked.stdout.strip()
    if asked.returncode != 0 or not version:
        said = " ".join(asked.stderr.split())[:200] or "no answer"
        if "permission denied" in said.lower():
            remedy = "join its group (`sudo usermod -aG docker $USER`, then log in anew), or start without it"
            raise CannotStart(Ending.TOOL, f"the Docker daemon does not let this user in ({said}): {remedy}")
        raise CannotStart(Ending.TOOL, f"the Docker daemon is not running ({said}): {remedy}")
    return version


def container_name(purpose: str) -> str:
    """A name that no other start uses, so that cleaning up removes our container and never somebody else's."""
    return f"workernode-{purpose}-{secrets.token_hex(4)}"


def has_image(image: str, env: Mapping[str, str]) -> bool:
    """Whether the daemon has it already, so that it need not be asked for, or is not to be had from here."""
    command = ("docker", "image", "inspect", "--format", "{{.Id}}", image)
    try:
        asked = subprocess.run(command, env=dict(env), capture_output=True, timeout=PROBE_WAIT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def volume_name(data: Path) -> str:
    """The volume that stands for a directory of this machine."""
    return f"workernode-pulsar-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"


def remove(name: str) -> tuple[str, ...]:
    """The command that removes a container of ours, running or not."""
    return ("docker", "rm", "--force", "--volumes", name)
