"""What a log line looks like: JSON for programs, text for people, which structlog renders.

A line never has a second one, whatever somebody put into its fields, and no field can pose as another.
"""

from __future__ import annotations

import json
import logging
import re
import time
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Literal

from process.log_event import ESCAPES, Event, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Format = Literal["json", "text", "colour"]

FRAMES_SHOWN = 4
"""Of an error's frames so many stand in a line of text, the innermost last; JSON has all."""
FRAMES_MAX = 50
MASK = "***"
SECRET_CHARS_MIN = 8
"""A shorter secret is a placeholder such as ``none``: masking it would only garble sentences."""

_SECRET = re.compile(r"\bsk-[\w-]{8,}|(?i:\bbearer\s+)[\w.~+/=-]{8,}|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
"""What looks like a key, or like the password in an address, although no setting holds it."""


class _Formatter(logging.Formatter):
    def __init__(
        self, render: Callable[[dict[str, Any]], str], process: int | None, mask: Callable[[str], str]
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
            if isinstance(named := getattr(record, "fields", None), dict):  # the broker's, which has no Log of ours
                line |= {name: value for name, value in named.items() if name not in line}
        if record.exc_info and record.exc_info[1] is not None:
            line["exceptions"] = _exceptions(record.exc_info[1])
        return self._render({name: self._safe(value) for name, value in line.items()})

    def _safe(self, value: Any) -> Any:
        return value if isinstance(value, int | float | list) else self._mask(str(value))


def formatter(form: Format, process: int | None, secrets: Iterable[str]) -> logging.Formatter:
    """Makes lines of our events and of libraries' records. ``secrets`` are masked in all of them."""
    known = sorted((re.escape(each) for each in secrets if len(each) >= SECRET_CHARS_MIN), key=len, reverse=True)
    given = re.compile("|".join(known)) if known else None

    def mask(text: str) -> str:
        text = text if given is None else given.sub(MASK, text)
        return _SECRET.sub(MASK, text)

    render = _json if form == "json" else _console(process, colours=form == "colour")
    return _Formatter(render, process, mask)


def _json(line: dict[str, Any]) -> str:
    # Escapes all that is not ASCII; the one control character among ASCII that it leaves is not allowed to remain.
    return json.dumps(line).replace("\x7f", "\\u007f")


def _console(process: int | None, *, colours: bool) -> Callable[[dict[str, Any]], str]:
    # For people alone: it may bring rich along, and 5 MiB.
    from structlog.dev import BRIGHT, CYAN, DIM, RED, RESET_ALL, YELLOW, Column, ConsoleRenderer

    levels = {"debug": DIM, "warning": YELLOW, "error": RED, "critical": RED}
    which = "" if process is None else f"[{process}]"

    def styled(style: str, text: str) -> str:
        return f"{style}{text}{RESET_ALL}" if colours and style else text

    renderer = ConsoleRenderer(
        sort_keys=False,
        columns=[
            Column("time", lambda _, value: styled(DIM, str(value))),
            Column("level", lambda _, value: styled(levels.get(str(value), ""), f"{str(value).upper():7}")),
            Column("logger", lambda _, value: styled(DIM, f"{value}{which}:")),
            Column("message", lambda _, value: styled(BRIGHT, str(value).translate(ESCAPES))),
            # Of one among several it stands behind the logger's name already.
            Column("process", lambda name, value: field(name, value, partial(styled, CYAN)) if process is None else ""),
            Column("exceptions", lambda _, value: field("at", _where(value))),
            Column("", lambda name, value: field(name, value, partial(styled, CYAN))),
        ],
    )
    return lambda line: renderer(None, line["level"], line)


def _exceptions(error: BaseException) -> list[dict[str, Any]]:
    """The error and what caused it, without words and without variables: both may hold a prompt."""
    return [
        {
            "type": type(each).__name__,
            "frames": [
                {"file": frame.f_code.co_filename, "line": line, "function": frame.f_code.co_name}
                for frame, line in walk_tb(each.__traceback__)
            ][-FRAMES_MAX:],
        }
        for each in _causes(error)
    ]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error first, then what it was raised from or while."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _where(exceptions: Any) -> str:
    frames = exceptions[0]["frames"][-FRAMES_SHOWN:]
    return ", ".join(f"{frame['file']}:{frame['line']} {frame['function']}" for frame in frames)
