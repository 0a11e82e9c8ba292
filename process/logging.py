"""Log lines: a sentence, then ``action="…"`` and ids. Never a prompt, never a key; one event, one line."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from process.log_event import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from process.log_lines import Format

OURS = ("broker", "gateway", "node", "management", "controller", "fleet", "process")
"""The first part of our loggers' names. What others say below a warning is their own business, mostly."""

OTHERS = {
    # Access lines would name every client, and start-up lines say what ours say.
    "uvicorn": logging.WARNING,
    "alembic": logging.WARNING,
    # It would say each second that a collector is away; process/otel.py says it once.
    "opentelemetry.exporter": logging.CRITICAL,
    # It repeats headers that it cannot read, and a collector's key with them; process/otel.py says that they are wrong.
    "opentelemetry.util": logging.CRITICAL,
}
"""Libraries that are told to say less than others."""


class Log:
    """A logger whose lines carry named fields: ``log.info("A node is gone.", action="node_lost", node=node)``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, sentence: str, **fields: object) -> None:
        """For someone who looks into a single request."""
        self._write(logging.DEBUG, sentence, fields)

    def info(self, sentence: str, **fields: object) -> None:
        """What an operator wants to see while all is well."""
        self._write(logging.INFO, sentence, fields)

    def warning(self, sentence: str, **fields: object) -> None:
        """Something is wrong, and the process deals with it."""
        self._write(logging.WARNING, sentence, fields)

    def error(self, sentence: str, *, error: BaseException | None = None, **fields: object) -> None:
        """Something is wrong that someone should look at. Of ``error`` its type is told and where it was raised, and
        none of its words: they may repeat a prompt."""
        self._write(logging.ERROR, sentence, fields, error)

    def _write(self, level: int, sentence: str, fields: dict[str, object], error: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, Event(sentence, fields, error), exc_info=error)


def set_up(
    level: str = "info", *, form: Format | None = None, process: int | None = None, secrets: Iterable[str] = ()
) -> None:
    """Log to standard error from ``level`` on. Called once, by a program's entry point.

    ``form``: JSON, or text with or without colours; by default coloured text on a terminal and else JSON.
    ``process``: which of several processes of a role this is, for its lines to say so. ``secrets`` are masked wherever
    they stand.
    """
    from process.log_lines import formatter  # structlog: what only asks for a module's Log does not pay for it

    if form is None:
        form = "colour" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form, process, secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(wanted, logging.INFO))
    for ours in OURS:
        logging.getLogger(ours).setLevel(wanted)
    for other, least in OTHERS.items():
        logging.getLogger(other).setLevel(max(wanted, least))
