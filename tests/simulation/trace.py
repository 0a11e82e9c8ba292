"""What happened, line by line: the same in every run of a seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.virtual_loop import VirtualLoop


class Trace:
    """Keeps its lines where they are wanted; else it costs next to nothing."""

    def __init__(self, loop: VirtualLoop, *, wanted: bool) -> None:
        self.wanted = wanted
        self.lines: list[str] = []
        self._loop = loop

    def add(self, who: str, what: str) -> None:
        """Write a line. Callers that have to compose ``what`` ask :attr:`wanted` before."""
        if self.wanted:
            self.lines.append(f"{self._loop.now:12.6f} {who:14} {what}")

    @property
    def digest(self) -> str:
        """Of all lines."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
