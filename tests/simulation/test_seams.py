"""Whether the list of what is replaced is whole: no other clock and no other dice are read where episodes go."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.simulation.seams import CLOCKS

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("gateway", "workernode", "management", "broker", "process", "store", "wire")
READERS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"},
    "datetime": {"now", "today", "utcnow"},
    "secrets": {"token_hex", "token_bytes", "token_urlsafe", "choice", "randbelow", "randbits"},
    "random": {"random", "uniform", "randint", "choice", "shuffle", "getrandbits", "randbytes"},
    "uuid": {"uuid1", "uuid4"},
    "os": {"urandom"},
}
ELSEWHERE = {
    "broker.pulsar": "another broker",
    "fleet": "a command line",
    "gateway.keys.keyring": "keys in a database",
    "gateway.keys.quota": "limits of keys in a database",
    "gateway.keys.limit_memory": "limits of keys in a database",
    "gateway.keys.limit_storage": "limits of keys in a database",
    "gateway.token_questions": "how many tokens prompts have, which nobody asks there",
    "management.fleet.backlogs": "its clock is an argument; only the fleet's view reads it",
    "management.guesses": "keys of people, which nobody shows there",
    "management.fleet.nodes": "its clock is an argument, which the seams give",
    "process.identity": "replaced as a whole",
    "management.pages": "pages",
    "process.cluster": "an API server",
    "process.guard": "real processes",
    "process.http": "HTTP servers",
    "process.lifecycle": "real processes",
    "store": "databases",
    "workernode.local": "child processes",
    "workernode.remote": "providers over HTTP",
}
"""Where episodes never come, or whose clock they bring along."""


def test_every_clock_and_all_dice_on_the_way_are_replaced() -> None:
    known = {(module.__name__, name) for module, name in CLOCKS}
    assert known
    found = set()
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not any(module == place or module.startswith(f"{place}.") for place in ELSEWHERE):
                found |= {(module, name) for name in _read_in(file)}
    assert found - known == set()
    assert {each for each in known if each[0] not in ELSEWHERE} - found == set(), "no longer needed"


def test_what_is_never_reached_is_not_loaded_for_an_episode() -> None:
    assert "tests.simulation.seams" in sys.modules
    assert not any(name.startswith("pulsar.") for name in _loaded_by_an_episode())


def _read_in(file: Path) -> set[str]:
    return {
        node.value.id
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr in READERS.get(node.value.id, ())
    }


def _loaded_by_an_episode() -> set[str]:
    import subprocess

    code = "import sys, tests.simulation.episode; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())
