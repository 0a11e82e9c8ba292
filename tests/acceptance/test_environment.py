"""``scripts/environment`` with the Python that it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ANOTHER = """#!/bin/sh
case "$2" in
*version_info*) exit 0 ;;
*sys.version*) echo "another one" ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """What looks like an environment of this Python that holds what it should."""
    held = tmp_path / "venv" / ".holds" / "runtime"
    held.mkdir(parents=True)
    (held / "runtime.txt").write_bytes((ROOT / "requirements" / "runtime.txt").read_bytes())
    (tmp_path / "venv" / "bin").mkdir()
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path / "venv"


def told(venv: Path, python: str) -> tuple[int, str]:
    done = subprocess.run(
        [ROOT / "scripts" / "environment", "runtime", venv],
        env={"PATH": os.environ["PATH"], "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("python", ["", sys.executable])
def test_an_environment_of_the_python_that_is_wanted_is_kept(venv: Path, python: str) -> None:
    assert told(venv, python) == (0, "")


def test_one_of_another_python_is_made_again(venv: Path) -> None:
    another = venv.parent / "another"
    another.write_text(ANOTHER)
    another.chmod(0o755)
    status, said = told(venv, str(another))
    assert (status, said.splitlines()[0]) == (6, f"Making {venv} with {another}")  # it can do no more than tell itself


def test_what_is_no_python_is_named_and_no_other_one_taken(venv: Path) -> None:
    assert told(venv, "no-python") == (6, "environment: PYTHON is no-python, which is no Python >= 3.11\n")
    assert (venv / "bin" / "python").exists()
