"""What an engine answers when it is asked how it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

Stage = Literal["starting", "downloading", "loading", "warming_up", "ready", "unwell"]

_SENTENCES: dict[Stage, str] = {
    "starting": "The engine starts.",
    "downloading": "The model is being downloaded.",
    "loading": "The model is being loaded.",
    "warming_up": "The model warms up.",
}
_UNKNOWN_ADDRESS = (404, 405, 501)
_LOADING = 503
PERCENT_STEP = 5
"""Smaller steps are not told."""


@dataclass(frozen=True)
class Health:
    """``progress`` is 0 to 1 where the engine tells it. Its own ``words`` show no more than that it goes on."""

    stage: Stage
    progress: float | None = None
    words: str | None = None

    @property
    def sentence(self) -> str:
        """For people, in steps of :data:`PERCENT_STEP`."""
        sentence = _SENTENCES.get(self.stage, "The engine is not well.")
        if self.progress is None:
            return sentence
        percent = min(100, int(self.progress * 100 / PERCENT_STEP) * PERCENT_STEP)
        return f"{sentence[:-1]}: {percent} %."


STARTING = Health("starting")
READY = Health("ready")


class _Told(msgspec.Struct):
    state: str = ""
    progress: float | None = None
    sentence: str | None = None


_told = msgspec.json.Decoder(_Told)


def health_of(status: int, body: bytes) -> Health | None:
    """What an answer to a question for health means; None where nobody is asked for that at this address."""
    if status == 200:
        return READY
    if status in _UNKNOWN_ADDRESS:
        return None
    if status != _LOADING:
        return Health("unwell")
    try:
        told = _told.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = _Told()
    progress = told.progress if told.progress is not None and 0 <= told.progress <= 1 else None
    match told.state:
        case "downloading" | "loading" | "warming_up" | "unwell" as stage:
            return Health(stage, progress, told.sentence)
        case _:
            return Health("loading")  # llama.cpp's: it listens at once, and loads
