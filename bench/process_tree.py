"""What a process and all that it started cost, from /proc."""

from __future__ import annotations

import contextlib

import psutil


def cpu_s(pid: int) -> float:
    """Processor seconds, user and system, of a process, its descendants, and those of them that have ended.

    The system adds a child that was waited for to its parent, so that nothing is lost when one ends.
    Raises :class:`psutil.NoSuchProcess`.
    """
    spent = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


def resident_bytes(pid: int) -> int:
    """Resident memory; pages that several processes share count for each. Raises :class:`psutil.NoSuchProcess`."""
    resident = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            resident += process.memory_info().rss
    return resident


def files(pid: int) -> int:
    """Open file descriptors. Raises :class:`psutil.NoSuchProcess`."""
    opened = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            opened += process.num_fds()
    return opened


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
