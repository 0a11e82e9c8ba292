"""What an application may know of its client's connection, beside what ASGI tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTION = "workernode.connection"
"""Where it stands in a request's scope."""


class Connection(Protocol):
    """Serves one request after the other. ASGI only lets one ask for the end of a connection, which takes a task of its
    own for each request, and knows no way to break it."""

    gone: bool
    """Whether the client has left, or was left."""
    requests: int
    """How many it has begun to read."""
    on_gone: Callable[[], None] | None
    """Called once when that happens. It is the present request's to set, and to take back."""

    @property
    def unsent(self) -> int:
        """Bytes of what was written that the client has not taken yet, beyond what the kernel holds for it."""

    def cut(self) -> None:
        """Break it, whatever is still to be written."""
