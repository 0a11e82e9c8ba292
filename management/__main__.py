"""``python -m management``."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from management.role import standalone
from management.settings import ManagementSettings
from process.lifecycle import run_role
from process.settings import EXIT_WRONG_SETTING
from store.database import UnusableDatabase

if TYPE_CHECKING:
    from dead_letters.deciding import Replay


def main(replay: Replay | None = None) -> int:
    """Run until a signal asks to stop; the exit code. ``replay``: see :func:`management.role.run`."""
    try:
        return run_role(ManagementSettings, partial(standalone, replay=replay))
    except UnusableDatabase as error:
        print(f"DATABASE_URL: {error}.", file=sys.stderr)
        return EXIT_WRONG_SETTING


if __name__ == "__main__":
    sys.exit(main())
