"""The broker settings of deploy/pulsar/standalone.conf, for a broker that does not read that file by itself."""

from collections.abc import Mapping
from pathlib import Path

from fleet.start.ending import CannotStart, Ending


def ours(directory: Path) -> dict[str, str]:
    """What the checkout in `directory` sets; nothing where there is no checkout."""
    path = directory / "deploy" / "pulsar" / "standalone.conf"
    return parse(path.read_text()) if path.is_file() else {}


def parse(text: str) -> dict[str, str]:
    """The settings in a .conf file's text."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, mark, value = line.strip().partition("=")
        if mark and not key.startswith("#"):
            found[key.strip()] = value.strip()
    return found


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    """A .conf file's text with `settings` in place of its own values, or added at its end."""
    left = dict(settings)
    lines: list[str] = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        lines.append(f"{key}={left.pop(key)}" if key in left else line)
    lines += [f"{key}={value}" for key, value in left.items()]
    return "\n".join(lines) + "\n"


def write_conf(home: Path, data: Path, settings: Mapping[str, str]) -> Path:
    """Write `home`'s standalone.conf with `settings` to `data`, and return its path; `home` is left as it is.

    Raises CannotStart when one cannot be read or the other not written.
    """
    path, theirs = data / "standalone.conf", home / "conf" / "standalone.conf"
    try:
        data.mkdir(parents=True, exist_ok=True)
        path.write_text(with_settings(theirs.read_text(), settings))
    except OSError as error:
        problem = f"{path} cannot be made of {theirs}: {error.strerror}"
        raise CannotStart(Ending.SETTING, problem) from None
    return path
