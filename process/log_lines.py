"""What a log line looks like: JSON for programs, text for people. structlog renders both, and tells exceptions.

A line never has a second one, whatever somebody put into its fields, and no field can pose as another.
"""

from __future__ import annotations

import json
import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from structlog import tracebacks
from structlog.dev import BRIGHT, CYAN, DIM, RED, RESET_ALL, YELLOW, Column, ConsoleRenderer
from structlog.processors import JSONRenderer

from process.log_event import ESCAPES, Event, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Format = Literal["json", "text", "colour"]

FRAMES_SHOWN = 4
"""Of an error's frames so many stand in a line of text, the innermost last; JSON has all."""
FRAMES_MAX = 50
MASK = "***"
SECRET_CHARS_MIN = 8
"""A shorter secret is a placeholder such as ``none``: masking it would only garble sentences."""

_SECRET = re.compile(r"\bsk-[\w-]{8,}|(?i:\bbearer\s+)[\w.~+/=-]{8,}|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
"""What looks like a key, or like the password in an address, although no setting holds it."""
_LEVELS = {"debug": DIM, "info": "", "warning": YELLOW, "error": RED, "critical": RED}


class _Formatter(logging.Formatter):
    def __init__(
        self, render: Callable[[Any, str, dict[str, Any]], str | bytes], process: int | None, mask: Callable[[str], str]
    ) -> None:
        super().__init__()
        self._render = render
        self._process = process
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if self._process is not None:
            line["process"] = self._process
        if isinstance(record.msg, Event):
            line |= {name: value for name, value in record.msg.items() if name not in line}
        else:
            # Of a library's words the first line: further ones may show what it was working on.
            line["message"] = record.getMessage().partition("\n")[0]
        if record.exc_info and record.exc_info[1] is not None:
            line["exceptions"] = _exceptions(record.exc_info[1])
        return str(self._render(None, line["level"], {name: self._safe(value) for name, value in line.items()}))

    def _safe(self, value: Any) -> Any:
        return value if isinstance(value, int | float | list) else self._mask(str(value))


def formatter(form: Format, process: int | None, secrets: Iterable[str]) -> logging.Formatter:
    """Makes lines of our events and of libraries' records. ``secrets`` are masked in all of them."""
    known = sorted((re.escape(each) for each in secrets if len(each) >= SECRET_CHARS_MIN), key=len, reverse=True)
    given = re.compile("|".join(known)) if known else None

    def mask(text: str) -> str:
        text = text if given is None else given.sub(MASK, text)
        return _SECRET.sub(MASK, text)

    render = JSONRenderer(_json) if form == "json" else _console(process, colours=form == "colour")
    return _Formatter(render, process, mask)


def _json(line: dict[str, Any], **_: object) -> str:
    # Escapes all that is not ASCII; the one control character among ASCII that it leaves is not allowed to remain.
    return json.dumps(line).replace("\x7f", "\\u007f")


def _console(process: int | None, *, colours: bool) -> ConsoleRenderer:
    which = "" if process is None else f"[{process}]"

    def styled(style: str, text: str) -> str:
        return f"{style}{text}{RESET_ALL}" if colours and style else text

    return ConsoleRenderer(
        sort_keys=False,
        columns=[
            Column("time", lambda _, value: styled(DIM, str(value))),
            Column("level", lambda _, value: styled(_LEVELS.get(str(value), ""), f"{str(value).upper():7}")),
            Column("logger", lambda _, value: styled(DIM, f"{value}{which}:")),
            Column("process", lambda name, value: field(name, value) if process is None else ""),
            Column("message", lambda _, value: styled(BRIGHT, str(value).translate(ESCAPES))),
            Column("exceptions", lambda _, value: field("at", _where(value))),
            Column("", lambda name, value: field(name, value, partial(styled, CYAN))),
        ],
    )


def _exceptions(error: BaseException) -> list[dict[str, Any]]:
    """The error and what caused it, without words and without variables: both may hold a prompt."""
    trace = tracebacks.extract(type(error), error, error.__traceback__, show_locals=False)
    return [
        {
            "type": stack.exc_type,
            "frames": [
                {"file": frame.filename, "line": frame.lineno, "function": frame.name}
                for frame in stack.frames[-FRAMES_MAX:]
            ],
        }
        for stack in trace.stacks
    ]


def _where(exceptions: Any) -> str:
    frames = exceptions[0]["frames"][-FRAMES_SHOWN:]
    return ", ".join(f"{frame['file']}:{frame['line']} {frame['function']}" for frame in frames)
