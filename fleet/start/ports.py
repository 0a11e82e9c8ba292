"""Which ports a start needs, and whether they are free."""

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.start.ending import CannotStart, Ending
from process.host import at_fault


@dataclass(frozen=True, slots=True)
class Address:
    """Where one role will listen, the setting that moves it, and its certificate if it serves over TLS."""

    role: str
    host: str
    port: int
    setting: str
    certificate: Path | None = None

    @property
    def url(self) -> str:
        """How a program on this machine reaches it; a wildcard host is reached over loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"


def require_free(addresses: Iterable[Address]) -> None:
    """Raise CannotStart with a line for every address that cannot be listened on."""
    wanted: dict[int, Address] = {}
    lines: list[str] = []
    ending = Ending.PORT
    for address in addresses:
        if other := wanted.get(address.port):
            ending = Ending.SETTING
            lines.append(f"{other.setting} and {address.setting} are both {address.port}: give each its own port")
            continue
        wanted[address.port] = address
        if problem := _problem(address):
            lines.append(problem)
    if lines:
        raise CannotStart(ending, *lines)


def _problem(address: Address) -> str | None:
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # As the roles do: connections of an earlier run in TIME_WAIT are no obstacle, a listener is.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except UnicodeError:
        return f"{address.host} is no name of a host ({address.role}): correct the setting that says so"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return (
                f"port {address.port} on {address.host} ({address.role}) is in use: "
                f"stop what listens there, or wait until it has stopped, or set {address.setting} to a free port"
            )
        reason = error.strerror or error
        wrong = at_fault(error, address.setting)
        return f"cannot listen on {address.host}:{address.port} ({address.role}; {reason}): set {wrong} to another"
    return None
