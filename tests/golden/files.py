"""The golden files: where they are, and what shall be in them."""

from __future__ import annotations

from pathlib import Path

from tests.golden.events import EVENTS
from tests.golden.lines import CONTROLS, LINKS
from tests.golden.presences import BACKLOGS, ORDERS, PRESENCES, ROLL_CALLS
from tests.golden.requests import DEAD_LETTERS, REQUESTS
from wire import codec

FILES = Path(__file__).parent


def files() -> dict[str, bytes]:
    """The content of every golden file by its name."""
    binary = {**REQUESTS, **DEAD_LETTERS, **LINKS, **CONTROLS, **PRESENCES, **ROLL_CALLS, **BACKLOGS, **ORDERS}
    return {
        **{f"{name}.bin": codec.encode(word) for name, word in binary.items()},
        **{f"{name}.json": codec.encode_event(event) for name, event in EVENTS.items()},
    }


def bytes_of(name: str) -> bytes:
    """The bytes of an example, as they were written."""
    return (FILES / (f"{name}.json" if name in EVENTS else f"{name}.bin")).read_bytes()
