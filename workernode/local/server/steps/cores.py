"""How many cores a step may keep busy."""

from __future__ import annotations

import math
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def of_container(cgroup: Path = CGROUP) -> int | None:
    """As many as a container's limit amounts to, at least one; None without a limit.

    A limit is time and not cores: all of the machine's are seen, and with a thread on each the time is spent early and
    everything stands still until there is more of it.
    """
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no Linux, or "max"
