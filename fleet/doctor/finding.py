"""What the doctor found out about one thing."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """``sentence`` says how it is, ``remedy`` what to do; ``measured_ms`` is there where time was the question."""

    name: str
    state: State
    sentence: str
    remedy: str | None = None
    measured_ms: float | None = None


def ok(name: str, sentence: str, measured_ms: float | None = None) -> Finding:
    """All is well."""
    return Finding(name, "ok", sentence, None, measured_ms)


def warn(name: str, sentence: str, remedy: str | None = None, measured_ms: float | None = None) -> Finding:
    """It works, or could not be looked at."""
    return Finding(name, "warn", sentence, remedy, measured_ms)


def fail(name: str, sentence: str, remedy: str) -> Finding:
    """It will not work like this."""
    return Finding(name, "fail", sentence, remedy)
