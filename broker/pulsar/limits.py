"""What a connection to Pulsar may hold and how long it may wait."""

from __future__ import annotations

import os
from dataclasses import dataclass

from broker.interface import SendRejected


@dataclass(frozen=True, kw_only=True, slots=True)
class PulsarLimits:
    """The limits of one connection, all its producers and consumers together."""

    send_timeout_ms: int = 10_000
    """How long a send waits for its receipt before it ends as unknown."""
    pending_sends_max: int = 10_000
    pending_bytes_max: int = 64 * 1024 * 1024
    connect_timeout_s: float = 5.0
    operation_timeout_s: int = 5
    """One try at opening a producer or a consumer, or at closing it."""
    open_timeout_s: float = 10.0
    """All tries together, while the broker says that it is not ready yet."""
    closing_s: float = 1.0
    """How long a consumer that is closed waits for a topic that moves, to acknowledge what is left."""
    watch_interval_s: float = 1.0
    """How often lost producers and consumers are looked for; every second look also asks the broker for an answer."""
    ping_timeout_s: float = 2.0
    client_log: str = os.devnull
    """A file for the warnings of the client library, for those who look for a fault in it."""


class Window:
    """How much may be on its way to the broker at once, by count and by bytes."""

    __slots__ = ("_bytes_max", "_count_max", "bytes", "count")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self.count = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether a further message must be refused."""
        return self.count >= self._count_max or self.bytes >= self._bytes_max

    def check(self) -> None:
        """Raise :class:`SendRejected` when full."""
        if self.full:
            raise SendRejected(
                f"{self.count} messages with {self.bytes} bytes already wait for their receipt "
                f"(limits: {self._count_max} messages, {self._bytes_max} bytes)."
            )

    def charge(self, count: int, size: int) -> None:
        """Count messages as on their way."""
        self.count += count
        self.bytes += size

    def refund(self, count: int, size: int) -> None:
        """Count them as arrived, or as given up."""
        self.count -= count
        self.bytes -= size
