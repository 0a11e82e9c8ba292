"""Log lines: a sentence, then ``action="…"`` and ids. Never a prompt, never a key; one event, one line."""

from __future__ import annotations

import logging
import sys
import time

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))} | {
    0x0A: "\\n",
    0x0D: "\\r",
    # Line and paragraph separators, and what turns the direction of the text that follows.
    **{
        code: f"\\u{code:04x}"
        for code in (0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    },
}
_VALUE_ESCAPES = {0x22: '\\"', 0x5C: "\\\\"}
"""So that a value can neither end its own quotes nor look like an escape."""


class Log:
    """A logger whose lines carry named fields: ``log.info("A node is gone.", action="node_lost", node=node)``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, sentence: str, **fields: object) -> None:
        """For someone who looks into a single request."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug(_line(sentence, fields))

    def info(self, sentence: str, **fields: object) -> None:
        """What an operator wants to see while all is well."""
        self._logger.info(_line(sentence, fields))

    def warning(self, sentence: str, **fields: object) -> None:
        """Something is wrong, and the process deals with it."""
        self._logger.warning(_line(sentence, fields))

    def error(self, sentence: str, *, error: BaseException | None = None, **fields: object) -> None:
        """Something is wrong that someone should look at. The traceback of ``error`` is shown with ``DEBUG=true``."""
        if error is not None:
            fields["error"] = type(error).__name__
        shown = error if self._logger.isEnabledFor(logging.DEBUG) else None
        self._logger.error(_line(sentence, fields), exc_info=shown)


def set_up(*, debug: bool, process: int | None = None) -> None:
    """Log to standard error. Called once, by a program's entry point.

    ``process``: which of several processes of a role this is, for its lines to say so.
    """
    handler = logging.StreamHandler(sys.stderr)
    who = "%(name)s" if process is None else f"%(name)s[{process}]"
    formatter = logging.Formatter(f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {who}: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for ours in ("broker", "gateway", "node", "management", "controller", "fleet"):
        logging.getLogger(ours).setLevel(logging.DEBUG if debug else logging.INFO)
    # Access lines would name every client; uvicorn's start-up lines say what ours say.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _line(sentence: str, fields: dict[str, object]) -> str:
    values = ((name, str(value).translate(_VALUE_ESCAPES)) for name, value in fields.items() if value is not None)
    text = "".join(f' {name}="{value}"' for name, value in values)
    return (sentence + text).translate(_ESCAPES)
