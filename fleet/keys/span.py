"""A span of time as people write it on a command line: ``0s``, ``90s``, ``15m``, ``36h``, ``30d``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click import Context, Parameter

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"(\d{1,6})([smhd])")


class Span(click.ParamType[int]):
    """Milliseconds; no fewer than ``least_s`` seconds."""

    name = "span"

    def __init__(self, least_s: int = 0) -> None:
        self._least_s = least_s

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> int:
        """Reads the text; fails with a sentence."""
        if isinstance(value, int):
            return value
        match = _SPAN.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no span of time: write 90s, 15m, 36h or 30d.", param, ctx)
        span_s = int(match[1]) * _UNIT_S[match[2]]
        if span_s < self._least_s:
            self.fail(f"{value!r} is too short: at least {self._least_s}s.", param, ctx)
        return span_s * 1000
