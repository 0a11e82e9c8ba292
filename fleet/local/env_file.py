"""``.env.local``, which ``start.sh`` picks up: our lines are replaced, everybody else's stay."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OURS = ("NODE_TYPE", "MODEL_NAME", "MODEL_PATH", "LOCAL_ENGINE", "LOCAL_PROGRAM", "DEVICE")


def write(path: Path, values: Mapping[str, str]) -> None:
    """Put the values in, whole or not at all. What others may read of it stays as it is; of a new one it is nothing."""
    path = path.resolve()
    mode = path.stat().st_mode if path.is_file() else stat.S_IRUSR | stat.S_IWUSR
    kept = path.read_text().splitlines() if path.is_file() else []
    kept = [line for line in kept if line.partition("=")[0].strip().removeprefix("export ") not in OURS]
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.chmod(stat.S_IMODE(mode))
    new.write_text("\n".join([*kept, *(f"{name}={_quoted(value)}" for name, value in values.items())]) + "\n")
    new.replace(path)


def _quoted(value: str) -> str:
    if not set(value) & set(""" #"'$\\"""):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
