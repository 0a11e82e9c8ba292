"""`python -m fleet.start.health`: the container's health check, for whichever roles the container runs."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.start.ports import Address

WAIT_S = 3.0
DEFAULT_ROLES = ("gateway", "node")
PLACES = {
    "gateway": ("HOST", "PORT", "8081"),
    "management": ("MANAGEMENT_HOST", "MANAGEMENT_PORT", "8082"),
    "node": ("NODE_HOST", "NODE_PORT", "8083"),
}


def roles(argv: Sequence[str]) -> tuple[str, ...]:
    """Which roles process 1 runs, by its arguments: what stands after `fleet`. None for any other command."""
    words = [word for word in argv[argv.index("fleet") + 1 :] if word] if "fleet" in argv else []
    if words[:1] == ["container"]:
        return tuple(words[1:]) or DEFAULT_ROLES
    if words[:1] == ["up"]:
        return tuple(PLACES)
    return tuple(words[:1]) if words[:1] and words[0] in PLACES else ()


def url(role: str, environment: Mapping[str, str]) -> str:
    """Where `role` says whether it is ready."""
    host, port, default = PLACES[role]
    at = Address(role, environment.get(host) or "127.0.0.1", int(environment.get(port) or default), port)
    return f"{at.url}/readyz"


def main() -> int:
    """0 when all roles of this container are ready, else 1 and a line about the first that is not."""
    argv = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    # The roles are our neighbours: a proxy from the environment must not come between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for role in roles(argv):
        try:
            opener.open(url(role, os.environ), timeout=WAIT_S).close()
        except (OSError, urllib.error.URLError) as error:
            print(f"{role} is not ready: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
