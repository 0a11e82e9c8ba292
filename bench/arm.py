"""An arm of the comparison: one way from a client to the upstream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.process import Process

DIRECT, ECHO, EMBEDDED, PULSAR, LITELLM, FASTCHAT = "direct", "echo", "embedded", "pulsar", "litellm", "fastchat"
OURS = (EMBEDDED, PULSAR)


@dataclass(frozen=True)
class Arm:
    """Ready processes, and where they are asked."""

    name: str
    url: str
    """Without ``/v1``."""
    version: str
    processes: list[Process] = field(default_factory=list)
    """Those whose cost counts, one for each role, beginning with the one that is asked. The upstream is everyone's."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Workloads that it is not asked to bear, by name, and why."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What else decides about its figures, such as settings."""

    def end(self) -> None:
        """End its processes in their order: the one that is asked comes first."""
        for process in self.processes:
            process.end()
