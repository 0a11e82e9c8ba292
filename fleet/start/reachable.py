"""Whether somebody listens at a broker's address."""

import socket
import time
from collections.abc import Sequence

from fleet.start.broker_choice import endpoints, without_credentials
from fleet.start.ending import CannotStart, Ending

PROBE_WAIT_S = 5.0
AGAIN_AFTER_S = 0.2


def require_broker(pulsar_url: str, wait_s: float = PROBE_WAIT_S) -> None:
    """Raise CannotStart when none of the hosts of `pulsar_url` takes a connection within `wait_s`."""
    places = endpoints(pulsar_url)
    deadline = time.monotonic() + wait_s
    why = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        why = _try(places, left) or ""
        if not why:
            return
        time.sleep(min(AGAIN_AFTER_S, left))
    raise CannotStart(
        Ending.BROKER,
        f"the broker at {without_credentials(pulsar_url)} cannot be reached ({why}): start it, correct PULSAR_URL,"
        " or use --pulsar embedded",
    )


def _try(places: Sequence[tuple[str, int]], wait_s: float) -> str | None:
    why = None
    for host, port in places:
        try:
            socket.create_connection((host, port), timeout=max(wait_s / len(places), 0.1)).close()
        except UnicodeError:
            why = f"{host} is no name of a host"
        except OSError as error:
            why = str(error.strerror or error)
        else:
            return None
    return why
