"""Wrong keys, counted by where they come from: so that an operator sees that somebody guesses, and guessing is slow."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from process.logging import Log
from wire.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import Counter

Result = Literal["wrong", "refused"]
"""What became of a key: it was nobody's, or nobody looked at it."""

WRONG_KEYS_PER_MIN = 10
"""From one address, or one network of IPv6."""
MINUTE_S = 60.0
PLACE_CHARS_MAX = 64
"""What a proxy calls a client may be any text."""
PLACES_MAX = 10_000
"""That are remembered; of more, the one whose minute began first is forgotten."""

log = Log("management")


class TooManyWrongKeys(FleetError):
    """Too many wrong keys came from your address. Wait a minute."""

    code, http_status, type, retryable = "too_many_wrong_keys", 429, "rate_limit_error", True


@dataclass
class _Minute:
    begun_s: float
    wrong: int = 0
    is_told: bool = False


class Guesses:
    """The wrong keys of each place's minute, which begins with its first one. ``clock`` counts seconds and never goes
    back."""

    def __init__(self, counters: Mapping[str, Counter], clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._minutes: dict[str, _Minute] = {}  # in the order in which they began

    def check(self, place: str) -> None:
        """Raises :class:`TooManyWrongKeys`: whatever key comes from there now is not to be looked at."""
        self._forget()
        minute = self._minutes.get(place)
        if minute is None or minute.wrong < WRONG_KEYS_PER_MIN:
            return
        self._counters["refused"].inc()
        if not minute.is_told:  # once: whoever guesses fills no log
            minute.is_told = True
            log.warning("Too many wrong management keys.", action="wrong_keys_refused", address=place)
        raise TooManyWrongKeys(retry_after_ms=round((minute.begun_s + MINUTE_S - self._clock()) * 1000))

    def add(self, place: str) -> None:
        """One more came from there."""
        self._counters["wrong"].inc()
        log.warning("A wrong management key was shown.", action="wrong_key", address=place)
        if place not in self._minutes:
            if len(self._minutes) >= PLACES_MAX:
                del self._minutes[next(iter(self._minutes))]
            self._minutes[place] = _Minute(self._clock())
        self._minutes[place].wrong += 1

    def _forget(self) -> None:
        over = self._clock() - MINUTE_S
        while self._minutes and self._minutes[place := next(iter(self._minutes))].begun_s <= over:
            del self._minutes[place]


def place_of(client: tuple[str, int] | None) -> str:
    """Where a connection comes from: an address, or a network of IPv6, of which whoever has one address has all."""
    host = client[0] if client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:PLACE_CHARS_MAX]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a socket for both shows all of IPv4 in one network
    return str(address) if address.version == 4 else str(ipaddress.ip_network(f"{address}/64", strict=False))
