"""The arms by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.arm import DIRECT, ECHO, EMBEDDED, FASTCHAT, LITELLM, PULSAR
from bench.arms import echo, fastchat, litellm, ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.arm import Arm
    from bench.fleet_processes import FleetProcesses

ARMS: dict[str, Callable[[FleetProcesses], Arm]] = {
    DIRECT: ours.direct,
    ECHO: echo.start,
    EMBEDDED: ours.embedded,
    PULSAR: ours.pulsar,
    LITELLM: litellm.start,
    FASTCHAT: fastchat.start,
}
"""Each starts its arm against an upstream that runs, and raises :class:`bench.process.NotReady` if it cannot."""
