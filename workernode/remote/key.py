"""The provider's key: as it was given, or from a file that may be replaced while the node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process.logging import Log

if TYPE_CHECKING:
    from pathlib import Path

log = Log("node.remote")


class Key:
    """Called, it gives the key that the file holds now. A file that is away for a moment keeps the last one; without a
    file it stays as it is."""

    def __init__(self, path: Path | None, key: str | None) -> None:
        self._path = path
        self._key = key
        self._seen: tuple[int, int, int] | None = None

    def __call__(self) -> str | None:
        """Read the file if it is another one, or was written, since the last call."""
        if self._path is None:
            return self._key
        try:
            stat = self._path.stat()
            seen = stat.st_mtime_ns, stat.st_ino, stat.st_size
            if seen == self._seen:
                return self._key
            key = self._path.read_text().strip()
        except (OSError, ValueError):
            return self._key
        if key and key != self._key:
            log.info("The provider's key was read anew.", action="key_read")
        self._seen, self._key = seen, key or self._key
        return self._key
