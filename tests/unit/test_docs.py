"""What the documents say about settings is what the code reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import management.role  # noqa: F401 (its errors are those that there are once they are loaded)
from wire.errors import CODES, FleetError, _tree

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
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")):
        for target, heading in re.findall(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
            leads_to = (page.parent / target).resolve() if target else page
            assert leads_to.exists(), f"{page.name} links to {target}"
            assert not heading or heading in _headings(leads_to), f"{page.name} links to {target}#{heading}"


def _headings(page: Path) -> set[str]:
    """As links name them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_code_of_an_error_has_its_line_with_its_status_and_whether_to_try_again() -> None:
    ours, providers, nodes, managements = (
        re.findall(r"^\| (`.*?) \|(.*)", section, re.MULTILINE)
        for section in re.split(r"^## .*", (ROOT / "docs/errors.md").read_text(), flags=re.MULTILINE)[1:]
    )
    listed = [code for row, _ in (*ours, *providers, *nodes) for code in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(CODES)
    told = {row.strip("`"): tuple(cell.strip() for cell in rest.split("|")[:2]) for row, rest in (*ours, *providers)}
    for error in _tree(FleetError):
        if error.code in told:
            assert told[error.code] == (str(error.http_status), "yes" if error.retryable else "no"), error.code
    own = {error for error in _tree(FleetError) if error.__module__.startswith("management.")}
    told = {row.strip("`"): tuple(cell.strip() for cell in rest.split("|")[:1]) for row, rest in managements}
    assert len(own) > 3
    for error in own:
        assert told[error.code] == (str(error.http_status),), error.code


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
