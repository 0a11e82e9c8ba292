"""With a defence switched off the checker finds the damage, or it would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import controls
from tests.chaos.fleet import ChaosFleet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.chaos.checker import Finding
    from tests.pulsar_server import PulsarServer

pytestmark = pytest.mark.pulsar

CONTROLS: list[tuple[Callable[[ChaosFleet, int], Awaitable[list[Finding]]], str, str]] = [
    (controls.early_ack, "I4", "not charged"),
    (controls.mixing, "I2", "expected one of"),
    (controls.cheerful, "I1", "both"),
    (controls.no_unique_id, "I4", "2 charges"),
]


@pytest.mark.parametrize(
    ("control", "invariant", "words"), CONTROLS, ids=lambda value: getattr(value, "__name__", value)
)
async def test_the_checker_finds_what_a_missing_defence_lets_through(
    control: Callable[[ChaosFleet, int], Awaitable[list[Finding]]],
    invariant: str,
    words: str,
    tmp_path: Path,
    pulsar_server: PulsarServer,
) -> None:
    async with ChaosFleet(pulsar_server, tmp_path) as fleet:
        findings = await control(fleet, 5)
    found = [violation for finding in findings if finding.invariant == invariant for violation in finding.violations]
    assert any(words in violation for violation in found), findings
