"""``python -m management``."""

from __future__ import annotations

import sys

from management.role import standalone
from management.settings import ManagementSettings
from process.lifecycle import run_role
from process.settings import EXIT_WRONG_SETTING
from store.database import UnusableDatabase


def main() -> int:
    """Run until a signal asks to stop; the exit code."""
    try:
        return run_role(ManagementSettings, standalone)
    except UnusableDatabase as error:
        print(f"DATABASE_URL: {error}.", file=sys.stderr)
        return EXIT_WRONG_SETTING


if __name__ == "__main__":
    sys.exit(main())
