"""What the supervisor runs: roles, in waves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.start.ending import Ending


@dataclass(frozen=True, slots=True)
class Role:
    """One child process of the supervisor."""

    name: str
    """Stands before each of its log lines."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Its whole environment, not an addition to ours."""
    ready_urls: tuple[str, ...] = ()
    """It is ready when every one of these answers 200; at once when there are none."""
    certificates: tuple[Path, ...] = ()
    """What it shows at those that begin with https."""
    once: bool = False
    """A task that must end with code 0 before the next wave begins, rather than a service that must not end."""
    may_leave: bool = False
    """A service that may end with code 0 once all are ready, as a node does that is drained; the others go on."""
    wait_s: float | None = None
    """How long it may take to become ready (or, for a task, to finish); None is the supervisor's own limit."""
    blame: Ending = Ending.DIED
    """How the whole start ends when this role dies or is late before it was ready."""
    log: Path | None = None
    """Where its lines go instead of the terminal, for one that talks much; the last ones are shown when it fails."""
    undo: tuple[str, ...] = ()
    """A command run after it has ended, for what a killed child leaves behind (a container)."""


Wave = tuple[Role, ...]
"""Roles that are started together. Waves begin one after the other; roles are stopped in the reverse of all this."""
