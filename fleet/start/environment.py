"""The environment a start works with: the real one, completed from .env.local and .env."""

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from fleet.start.ending import CannotStart, Ending

FILES = (".env", ".env.local")


def complete(real: Mapping[str, str], directory: Path) -> dict[str, str]:
    """`real` plus what the .env files in `directory` add; .env.local goes before .env and the real one before both.

    Raises CannotStart for a line that is not KEY=VALUE.
    """
    merged: dict[str, str] = {}
    for name in FILES:
        merged.update(_read(directory / name))
    return {**merged, **real}


def names_in_files(directory: Path) -> set[str]:
    """The settings that the .env files in `directory` name."""
    return {key for name in FILES for key in _read(directory / name)}


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    # No interpolation: a `$` in a password must stay one.
    for key, value in dotenv_values(path, interpolate=False).items():
        if value is None:
            raise CannotStart(Ending.SETTING, f"{path.name}: {key} has no value; write {key}=VALUE, or remove the line")
        found[key] = value
    return found
