"""Every example with what reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.golden.events import EVENTS
from tests.golden.lines import CONTROLS, LINKS
from tests.golden.presences import BACKLOGS, ORDERS, PRESENCES, ROLL_CALLS
from tests.golden.requests import DEAD_LETTERS, REQUESTS
from wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable

Case = tuple[str, Any, "Callable[[bytes], Any]"]
CASES: list[Case] = [
    *((name, word, codec.decode_request) for name, word in REQUESTS.items()),
    *((name, word, codec.decode_dead_letter) for name, word in DEAD_LETTERS.items()),
    *((name, word, codec.decode_link) for name, word in LINKS.items()),
    *((name, word, codec.decode_control) for name, word in CONTROLS.items()),
    *((name, word, codec.decode_presence) for name, word in PRESENCES.items()),
    *((name, word, codec.decode_roll_call) for name, word in ROLL_CALLS.items()),
    *((name, word, codec.decode_order) for name, word in ORDERS.items()),
    *((name, word, codec.decode_backlog) for name, word in BACKLOGS.items()),
    *((name, word, codec.decode_event) for name, word in EVENTS.items()),
]
every_word = pytest.mark.parametrize(("name", "word", "decode"), CASES, ids=[name for name, _, _ in CASES])
