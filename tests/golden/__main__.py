"""Writes the golden files anew: ``python -m tests.golden``. Only for a change of the contract that is meant."""

from __future__ import annotations

from tests.golden.files import FILES, files
from tests.unit.test_controller_manifests import GOLDEN
from tests.unit.test_controller_manifests import files as manifests


def main() -> None:
    """Write every file, and remove those whose example is gone."""
    wanted = files()
    for path in FILES.iterdir():
        if path.suffix in (".bin", ".json") and path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (FILES / name).write_bytes(content)
    for path in GOLDEN.iterdir():
        path.unlink()
    for name, text in manifests().items():
        (GOLDEN / name).write_text(text)


if __name__ == "__main__":
    main()
