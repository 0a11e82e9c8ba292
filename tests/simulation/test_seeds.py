"""What 500 seeds are worth: nothing is violated, everything was hit, and every seed can be played again to the byte."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation.campaign import played, total
from tests.simulation.episode import play
from tests.simulation.sabotage import DEFENCES, without
from tests.simulation.trouble import SHARES

SEEDS = 500
CONTROL_SEEDS = 40
ROOT = Path(__file__).parent.parent.parent
HIT = {*SHARES, "later"} - {"point"}
"""A death at a crash point counts as its process's."""
FOUND_AS = {
    "the charge before the acknowledgement": "I4 not charged",
    "comparing the text of a second attempt": "I2 expected one of",
    "no DONE after an error": "I1 no proper end",
    "ids of events": "I4 2 charges",
    "fencing": "I2 expected one of|I1 no proper end.* broken JSONDecodeError",
    "numbers of frames": "I1 an error without a cause",
    "asking the holder": "I6",
    "the limit of deaths": "I9",
    "looking for a node before giving up": "I4 charged as answered",
}


@pytest.mark.timeout(1200)  # it gives way to whatever else runs
def test_500_seeds_violate_nothing_and_every_kind_of_fault_hits_work_in_flight() -> None:
    found = total(map(played, range(SEEDS)), 0, time.monotonic(), lambda _: None)
    assert not found.failed, "\n".join(each.text for each in found.failed[:3])
    hits = {kind: count["hit work in flight"] for kind, count in found.result.faults.items()}
    assert {kind for kind, count in hits.items() if count >= 10} >= HIT, hits
    assert all(finding.checked for finding in found.result.findings)


@pytest.mark.parametrize("defence", DEFENCES)
def test_without_a_defence_the_damage_shows_within_40_seeds(defence: str) -> None:
    with without(defence):
        outcomes = (play(seed) for seed in range(CONTROL_SEEDS))
        assert any(re.search(FOUND_AS[defence], str(outcome)) for outcome in outcomes)


def test_a_seed_is_the_same_to_the_byte_every_time_and_everywhere() -> None:
    once, again = play(7, traced=True), play(7, traced=True)
    assert len(once.trace) > 500
    assert once.trace == again.trace
    assert once.digest == again.digest == _digest_in_another_process("7", hash_seed="1")
    assert once.digest != play(8, traced=True).digest


def test_a_trace_changes_nothing() -> None:
    seen, unseen = play(7, traced=True), play(7)
    assert unseen.trace == []
    assert [str(each) for each in seen.evidence.asked] == [str(each) for each in unseen.evidence.asked]
    assert seen.ended_at == unseen.ended_at


def test_a_violation_names_its_seed_the_invariant_and_how_to_see_it_again() -> None:
    with without("ids of events"):
        seed, told = next((seed, text) for seed in range(CONTROL_SEEDS) if "I4 2 charges" in (text := str(play(seed))))
    assert told.startswith(f"seed {seed}:\n  ")
    assert told.endswith(f"scripts/chaos simulation --seed {seed} --trace")


def _digest_in_another_process(seed: str, *, hash_seed: str) -> str:
    code = "import sys; from tests.simulation.episode import play; print(play(int(sys.argv[1]), traced=True).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, seed], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
    )
    return done.stdout.strip()
