"""Ends the children of a process that was killed. Run as a script; imports nothing of ours.

That process (:mod:`process.guarding`) writes a JSON line per change to our standard input: {"started": group},
{"ended": group}, {"undo": [command]}, {"done": true}. The end of the input without `done` means that it died without
cleaning up: a pipe tells that on every Unix, for SIGKILL too, without code that runs between fork and exec.
"""

import json
import os
import signal
import subprocess
import sys
import time

POLL_EVERY_S = 0.05
UNDO_WAIT_S = 10.0


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main(stop_wait_s: float) -> None:
    """Follow the process; if it dies, SIGTERM its groups, then SIGKILL those left after `stop_wait_s`."""
    groups: list[int] = []
    undo: list[list[str]] = []
    for line in sys.stdin:
        message = json.loads(line)
        if "started" in message:
            groups.append(message["started"])
        elif "ended" in message:
            groups.remove(message["ended"])
        elif "undo" in message:
            undo.append(message["undo"])
        elif "done" in message:
            return
    for group in reversed(groups):
        _signal(group, signal.SIGTERM)
    deadline = time.monotonic() + stop_wait_s
    while any(_signal(group, 0) for group in groups) and time.monotonic() < deadline:
        time.sleep(POLL_EVERY_S)
    for group in groups:
        _signal(group, signal.SIGKILL)
    for command in undo:
        subprocess.run(command, check=False, timeout=UNDO_WAIT_S, capture_output=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
