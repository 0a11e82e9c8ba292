"""Processes that a role left behind: on Linux they come to us, so that nothing we started outlives us."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Collection
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt() -> None:
    """Become the parent of every descendant whose own parent dies, as process 1 of a container is anyway."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(own: Collection[int]) -> None:
    """Collect ended children that are not in `own`; theirs are collected by whoever waits for them."""
    if sys.platform != "linux":
        return
    while True:
        try:
            # WNOWAIT only looks, so that the exit code of one of our own is not taken from its Popen.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in own:
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(found.si_pid, os.WNOHANG)


def living(own: Collection[int]) -> list[int]:
    """Children of this process that are not in `own`: orphans that came to us and still run."""
    me = os.getpid()
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may itself hold spaces and parentheses: state and parent follow the last one.
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        pid = int(entry.parent.name)
        if int(parent) == me and state != "Z" and pid not in own:
            found.append(pid)
    return found
