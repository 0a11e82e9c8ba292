"""Where a broker that we start keeps its messages."""

import fcntl
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from fleet.start.ending import CannotStart, Ending

_held: list[int] = []
"""Descriptors of locks, which end with this process."""


def data_directory(asked: Path | None, checkout: Path, env: Mapping[str, str]) -> Path:
    """PULSAR_DATA, or data/pulsar in the checkout.

    Pulsar makes URLs of its paths and cannot start where one has a space, so a checkout in such a path keeps its
    messages under XDG_STATE_HOME instead. Raises CannotStart when that does not help either.
    """
    path = (checkout / (asked or Path("data/pulsar"))).resolve()
    if asked is None and " " in str(path):
        state = Path(env.get("XDG_STATE_HOME") or Path(env.get("HOME", "~")).expanduser() / ".local" / "state")
        path = state / "workernode" / f"pulsar-{hashlib.sha256(str(checkout).encode()).hexdigest()[:12]}"
    require_no_spaces("PULSAR_DATA", path)
    return path


def hold(path: Path) -> None:
    """Make the directory and keep it for this process until it ends: a second broker would spoil the first one's files.

    Raises CannotStart when somebody has it, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(Ending.SETTING, f"PULSAR_DATA: {path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        problem = f"{path} is in use by another start: stop that one, or set PULSAR_DATA to another directory"
        raise CannotStart(Ending.SETTING, problem) from None
    except OSError as error:  # as of a network's file system that has no locks
        os.close(lock)
        raise CannotStart(Ending.SETTING, f"PULSAR_DATA: {path} cannot be locked: {error.strerror}") from None
    _held.append(lock)


def require_no_spaces(setting: str, path: Path) -> None:
    """Raise CannotStart when Pulsar could not use `path`."""
    if " " in str(path):
        raise CannotStart(
            Ending.SETTING, f"Apache Pulsar does not run in a path with spaces ({path}): set {setting} to another one"
        )
