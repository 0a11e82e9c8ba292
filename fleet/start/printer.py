"""Lines for the terminal, written by a thread of its own.

A terminal that is paused, or a pipe that nobody reads, must neither stop the roles nor keep us from stopping them.
"""

import queue
import threading
from typing import TextIO

LINES_MAX = 10_000


class Printer:
    """Writes prefixed lines to `stream`; drops and counts them when the stream does not keep up."""

    def __init__(self, stream: TextIO, width: int = 10) -> None:
        self._stream = stream
        self._width = width
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, daemon=True, name="printer")
        self._thread.start()

    def say(self, name: str, line: str) -> None:
        """Queue one line of `name`; never blocks."""
        try:
            if self._dropped:
                self._lines.put_nowait(f"{'fleet':<{self._width}} | {self._dropped} lines were not shown\n")
                self._dropped = 0
            self._lines.put_nowait(f"{name:<{self._width}} | {line}\n")
        except queue.Full:
            self._dropped += 1

    def close(self, wait_s: float = 1.0) -> None:
        """Write what is queued, for at most `wait_s`."""
        try:
            self._lines.put(None, timeout=wait_s)
        except queue.Full:
            return
        self._thread.join(wait_s)

    def _write(self) -> None:
        broken = False
        while (line := self._lines.get()) is not None:
            if broken:
                continue
            try:
                try:
                    self._stream.write(line)
                except UnicodeEncodeError:  # a terminal that does not know all characters
                    self._stream.write(line.encode("ascii", "replace").decode())
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                broken = True  # whoever read us is gone; the fleet goes on
