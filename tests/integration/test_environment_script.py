"""``scripts/environment``, which makes the environment that everything else runs in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_an_environment_is_made_where_pip_installs_for_one_user(tmp_path: Path) -> None:
    """As shared machines have it in /etc/pip.conf."""
    checkout = tmp_path / "a checkout"
    for folder in ("scripts", "requirements"):
        (checkout / folder).mkdir(parents=True)
    shutil.copy2(ROOT / "scripts" / "environment", checkout / "scripts")
    (checkout / "requirements" / "runtime.txt").touch()
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    env = {**os.environ, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PYTHON": sys.executable}
    script = checkout / "scripts" / "environment"
    done = subprocess.run([script], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (checkout / ".venv" / ".holds" / "runtime" / "runtime.txt").exists()
