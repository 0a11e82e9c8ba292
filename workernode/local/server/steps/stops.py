"""Stop strings in a text that comes in parts, across any borders of tokens. Pure."""

from __future__ import annotations


class Stops:
    """Passes text on up to the first stop string, and holds back what may become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that may be shown now. After :attr:`stopped` there is no more."""
        if not self._stops:
            return text
        self._held += text
        # Of two that end in the same part, the one that begins first counts.
        begins = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if begins:
            self.stopped = True
            shown, self._held = self._held[: min(begins)], ""
            return shown
        keep = max(self._overlap(stop) for stop in self._stops)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back, when no more text will come."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """How many characters at the end of the held text begin this stop string."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:length]):
                return length
        return 0
