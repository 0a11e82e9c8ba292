"""The environment a start works with: the real one, completed from .env.local and .env."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from dotenv.parser import parse_stream

from fleet.start.ending import CannotStart, Ending

FILES = (".env", ".env.local")


def complete(real: Mapping[str, str], directory: Path, files: Sequence[str] = FILES) -> dict[str, str]:
    """`real` plus what the .env `files` in `directory` add; .env.local goes before .env and the real one before both.

    An empty variable counts as unset, so it takes nothing from a file. Raises CannotStart for a line that is not
    KEY=VALUE.
    """
    merged: dict[str, str] = {}
    for name in files:
        merged.update(_read(directory / name))
    return {**merged, **{name: value for name, value in real.items() if value.strip() or name not in merged}}


def names_in_files(directory: Path) -> set[str]:
    """The settings that the .env files in `directory` name."""
    return {key for name in FILES for key in _read(directory / name)}


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(Ending.SETTING, f"{path.name} cannot be read: {error}") from None
    # Parsed and not loaded: a line that is wrong must not be passed over, and a `$` in a password must stay one.
    for binding in parse_stream(io.StringIO(text)):
        line = f"{path.name}, line {binding.original.line}"
        if binding.error:
            raise CannotStart(Ending.SETTING, f"{line}: it is no KEY=VALUE; a quote that opens has to close")
        if binding.key is not None and binding.value is None:
            raise CannotStart(Ending.SETTING, f"{line}: {binding.key} has no value; write {binding.key}=VALUE")
        if binding.key is not None:
            found[binding.key] = binding.value or ""
    return found
