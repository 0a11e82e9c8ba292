"""Runs a supervisor over the plan in a JSON file, as `fleet start` does: {"manner": {…}, "waves": [[role, …], …]}."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from fleet.start.command import supervise, told
from fleet.start.ending import Ending
from fleet.start.role import Role
from fleet.start.supervisor import Manner


def main() -> int:
    """The exit code of the start."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    plan = [[_role(role) for role in wave] for wave in asked["waves"]]
    manner = Manner(**asked["manner"])
    return told(lambda printer: supervise([tuple(wave) for wave in plan], manner, printer, ["all are ready"]))


def _role(asked: dict[str, Any]) -> Role:
    return Role(
        name=asked["name"],
        argv=tuple(asked["argv"]),
        env=dict(os.environ),
        ready_urls=tuple(asked.get("ready_urls", ())),
        once=asked.get("once", False),
        may_leave=asked.get("may_leave", False),
        blame=Ending(asked.get("blame", Ending.DIED)),
        log=Path(asked["log"]) if "log" in asked else None,
        undo=tuple(asked.get("undo", ())),
    )


if __name__ == "__main__":
    sys.exit(main())
