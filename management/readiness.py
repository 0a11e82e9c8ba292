"""Whether management can do its work now, and if not, why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Part = Literal["database", "broker", "ledger", "presence"]


class Readiness:
    """What each part lacks, as a sentence. All parts lack something at first.

    ``connected`` tells whether the broker can be reached. ``on_ready`` is called once, when nothing lacks any more.
    """

    def __init__(self, connected: Callable[[], bool], on_ready: Callable[[], None] | None = None) -> None:
        self._connected = connected
        self._on_ready = on_ready
        self._lacking: dict[Part, str] = {
            "database": "The database is not open yet.",
            "broker": "The broker is not connected yet.",
            "ledger": "The results topic is not read yet.",
            "presence": "The nodes' heartbeats are not heard yet.",
        }

    @property
    def sentences(self) -> list[str]:
        """What is not ready; nothing if all is."""
        if "broker" not in self._lacking and not self._connected():
            return [*self._lacking.values(), "The broker cannot be reached."]
        return list(self._lacking.values())

    def lacks(self, part: Part, sentence: str) -> None:
        """This part cannot work at the moment."""
        self._lacking[part] = sentence

    def has(self, part: Part) -> None:
        """This part works."""
        self._lacking.pop(part, None)
        if not self._lacking and self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
