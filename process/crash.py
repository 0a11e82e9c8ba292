"""Named places in the code at which a test lets the process die, as a power cut would, at the nth pass.

``CRASH_POINT=before_engine:3`` in the environment kills at the third pass of ``crash.point("before_engine")``. A seam
for tests: without the variable a point costs one call of a function that does nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_CODE = 137
"""As after SIGKILL."""
VARIABLE = "CRASH_POINT"


def _pass_by(_: str) -> None:
    """Go on."""


point: Callable[[str], None] = _pass_by
"""Pass a place. Called through the module (``crash.point(…)``), since :func:`install` replaces it."""


def install(setting: str | None) -> None:
    """Arm the one place that ``NAME:N`` names. Raises ValueError for anything else; without a setting nothing is armed.

    Called once, by a program's entry point.
    """
    global point
    if not setting:
        return
    wanted, _, passes = setting.partition(":")
    left = int(passes)

    def die_at_last(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if left == 0:
                os._exit(EXIT_CODE)  # nothing is flushed, closed or said

    point = die_at_last
