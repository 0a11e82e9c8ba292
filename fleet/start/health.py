"""`python -m fleet.start.health`: the container's health check, for whichever roles the container runs."""

import os
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.start.ports import Address
from process.tls import pinned

WAIT_S = 3.0
DEFAULT_ROLES = ("gateway", "node")
PLACES = {
    "gateway": ("HOST", "PORT", "8081", "SSL_CERTFILE"),
    "management": ("MANAGEMENT_HOST", "MANAGEMENT_PORT", "8082", "MANAGEMENT_SSL_CERTFILE"),
    "node": ("NODE_HOST", "NODE_PORT", "8083", ""),
}


def roles(argv: Sequence[str]) -> tuple[str, ...]:
    """Which roles process 1 runs, by its arguments: what stands after `fleet`. None for any other command."""
    words = [word for word in argv[argv.index("fleet") + 1 :] if word] if "fleet" in argv else []
    if words[:1] == ["container"]:
        return tuple(words[1:]) or DEFAULT_ROLES
    if words[:1] == ["up"]:
        return tuple(PLACES)
    return tuple(words[:1]) if words[:1] and words[0] in PLACES else ()


def address(role: str, environment: Mapping[str, str]) -> Address:
    """Where `role` listens."""
    host, port, default, certfile = PLACES[role]

    def given(name: str, otherwise: str = "") -> str:
        return environment.get(name, "").strip() or otherwise  # as the role itself reads it

    certificate = given(certfile)
    where = given(host, "127.0.0.1"), int(given(port, default))
    return Address(role, *where, port, Path(certificate) if certificate else None)


def ask(at: Address) -> None:
    """Return if the role there is ready. Raises OSError if not."""
    # The roles are our neighbours: a proxy from the environment must not come between.
    ways: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if at.certificate:
        ways.append(urllib.request.HTTPSHandler(context=pinned(at.certificate)))
    urllib.request.build_opener(*ways).open(f"{at.url}/readyz", timeout=WAIT_S).close()


def main() -> int:
    """0 when all roles of this container are ready, else 1 and a line about the first that is not."""
    argv = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    for role in roles(argv):
        try:
            ask(address(role, os.environ))
        except OSError as error:
            print(f"{role} is not ready: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
