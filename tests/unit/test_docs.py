"""What the documents say about settings is what the code reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_docs_settings_md_lists_every_setting_as_it_is() -> None:
    checked = subprocess.run([sys.executable, "scripts/settings", "--check"], cwd=ROOT, check=False)
    assert checked.returncode == 0, "run scripts/settings"


def test_every_setting_in_the_readme_exists() -> None:
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    known |= {"START_WAIT_S", "STOP_WAIT_S", "PULSAR_HOME", "PULSAR_PORT", "PULSAR_ADMIN_PORT", "PULSAR_DATA"}
    table = re.findall(r"^\| `([A-Z_]+)`", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(table) > 10
    assert set(table) <= known


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_numbers_in_the_readme_are_those_that_a_run_recorded() -> None:
    checked = subprocess.run([sys.executable, "scripts/numbers", "--check"], cwd=ROOT, check=False)
    assert checked.returncode == 0, "run scripts/numbers"


def test_the_slots_that_performance_md_recommends_are_those_of_erlangs_formula() -> None:
    table = re.findall(
        r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", (ROOT / "docs/performance.md").read_text(), re.MULTILINE
    )
    assert len(table) == 8
    for busy, *slots in (map(int, row) for row in table):
        for count, waits in zip(slots, (0.5, 0.1, 0.01), strict=True):
            assert _share_that_waits(busy, count) <= waits < _share_that_waits(busy, count - 1)


def _share_that_waits(busy: float, slots: int) -> float:
    """Erlang's C formula: of requests that come by chance, those that find all slots taken."""
    if slots <= busy:
        return 1.0
    lost = 1.0
    for number in range(1, slots + 1):
        lost = busy * lost / (number + busy * lost)
    return lost / (1 - busy / slots * (1 - lost))
