"""Latency, resets and silence between the roles and the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.bad_network import bad_network
from tests.chaos.table import violations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pulsar_server import PulsarServer

pytestmark = pytest.mark.pulsar


@pytest.mark.timeout(300)
async def test_a_bad_network_breaks_no_invariant(tmp_path: Path, pulsar_server: PulsarServer) -> None:
    run = await bad_network(pulsar_server, tmp_path, seed=11)
    result = run.result("proxy", "", 11)
    assert not result.violations, violations(result.findings)
    assert {kind: count["hit work in flight"] for kind, count in result.faults.items()} == {
        "reset": 3,
        "latency": 3,
        "black hole": 3,
    }
