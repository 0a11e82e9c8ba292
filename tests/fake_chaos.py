"""How an answer of the fake provider goes wrong on request."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chaos:
    """How one answer goes wrong. In a prompt, ``no_done`` is written ``no-done`` and ``status`` ``status=503``."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    """Sent in addition; not available as a word."""
    body: bytes | None = None
    """Sent instead of any answer, with ``status``; not available as a word."""
    retry_after: str | None = None
    quota: bool = False
    """With ``status=429``: the error's code is ``insufficient_quota``."""
    delay_headers: float = 0.0
    """Seconds before the status line."""
    delay_first: float = 0.0
    """Seconds between the status line and the first token."""
    delay_between: float = 0.0
    """Seconds between two chunks."""
    delay_end: float = 0.0
    """Seconds between the last event and the end of the response."""
    close_after: int | None = None
    """The connection breaks after that many chunks; of a whole answer, after half of its bytes."""
    end_after: int | None = None
    """The stream ends properly after that many chunks, without ``[DONE]`` and finish reason."""
    error_after: int | None = None
    """After that many chunks comes an error event, and the stream ends."""
    garbage_after: int | None = None
    """After that many chunks comes one that is no JSON."""
    hang_after: int | None = None
    """After that many chunks nothing more comes."""
    reset: bool = False
    """The connection breaks before the status line."""
    no_done: bool = False
    no_finish: bool = False
    no_usage: bool = False
    usage_on_finish: bool = False
    """The usage stands in the chunk with the finish reason, as some providers do."""
    empty: bool = False
    """A stream without any chunk; a whole answer without a body."""
    html: bool = False
    """A proxy's error page, with status 200 unless ``status`` says otherwise."""
    error_inside: bool = False
    """Status 200, and an error as body or as first event."""
    gzip: bool = False
    crlf: bool = False
    comments: bool = False
    """A keep-alive comment before every chunk."""
    pings: float = 0.0
    """With ``hang_after``, of a stream: seconds between the keep-alive comments that still come."""
    spaces: int = 0
    """So many line breaks come before a whole answer, ``delay_between`` seconds apart."""
    hang: bool = False
    """Never answers: not even a status line."""
    huge: int = 0
    """MiB of text."""
    burst: int = 1
    """Chunks of a stream per write."""

    @classmethod
    def of(cls, words: str) -> Chaos:
        """Read the words of a prompt; those that name no field are text."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        chosen: dict[str, Any] = {}
        for word in words.split():
            name, equals, value = word.partition("=")
            name = name.replace("-", "_")
            found = known.get(name)
            if found is None or name in ("headers", "body"):
                continue
            if found.type == "bool":
                chosen[name] = True
            elif equals:
                kind = float if found.type == "float" else str if found.type.startswith("str") else int
                chosen[name] = kind(value)
        return cls(**chosen)
