"""The product's log lines during an episode: into its trace, or nowhere; what tells of a fault in the code is kept."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.trace import Trace

UNFORESEEN = ("fault", "task_failed", "engine_fault", "attempt_fault")
"""Actions of log lines that tell of a fault in the code."""


class Logged(logging.Handler):
    """Takes them while its block runs."""

    def __init__(self, *, traced: bool) -> None:
        super().__init__()
        self.trace: Trace | None = None
        self._traced = traced
        self.faults: list[str] = []
        """What failed in a way that nobody foresaw."""
        self._before: list[tuple[logging.Logger, int, bool]] = []

    def __enter__(self) -> Logged:
        for name in ("gateway", "node", "management", "process"):
            logger = logging.getLogger(name)
            self._before.append((logger, logger.level, logger.propagate))
            logger.propagate = False
            logger.setLevel(logging.INFO if self._traced else logging.ERROR)
            logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger, level, propagate in self._before:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate

    def callback_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For the loop."""
        self.faults.append(f"{context['message']}: {context.get('exception')!r}")

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if any(f'action="{action}"' in line for action in UNFORESEEN):
            self.faults.append(line)
        if self.trace is not None:
            self.trace.add(record.name, f"logs {line}")
