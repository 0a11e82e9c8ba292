"""``python -m controller``."""

from __future__ import annotations

import sys

from controller.role import run
from controller.settings import ControllerSettings
from process.lifecycle import run_role


def main() -> int:
    """Run until a signal asks to stop; the exit code."""
    return run_role(ControllerSettings, run)


if __name__ == "__main__":
    sys.exit(main())
