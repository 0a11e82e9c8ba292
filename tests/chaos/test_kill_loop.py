"""Random kills of everything, under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.fleet import ChaosFleet
from tests.chaos.poison import AFTERWARDS, BESIDE, poisoned
from tests.chaos.scenarios import Size, kills
from tests.chaos.table import violations
from tests.pulsar_server import PulsarServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.pulsar
KILLS = 20
TRIED = 23
"""Some more: a victim may have no work at the moment of its death, and then it does not count."""
REQUESTS = 2000
CLIENTS = 20
"""Enough for every victim to have work, and for so many requests while the kills go on."""


@pytest.mark.timeout(400)
async def test_2000_requests_survive_20_kills(tmp_path: Path, pulsar_server: PulsarServer) -> None:
    home = tmp_path / "broker"
    home.mkdir()
    # A broker of its own: it is killed as well.
    server = PulsarServer(home)
    server.start()
    try:
        run = await kills(server, tmp_path, seed=20, size=Size(REQUESTS, TRIED, clients=CLIENTS))
    finally:
        server.stop()
    result = run.result("kill", "", 20)
    assert not result.violations, violations(result.findings)
    assert result.requests >= REQUESTS
    hits = {kind: count["hit work in flight"] for kind, count in result.faults.items() if kind != "unload"}
    assert sum(hits.values()) >= KILLS
    assert set(hits) == {"node", "gateway", "management", "broker"}


async def test_a_poison_request_kills_three_nodes_and_nothing_that_was_beside_it(
    tmp_path: Path, pulsar_server: PulsarServer
) -> None:
    async with ChaosFleet(pulsar_server, tmp_path) as fleet:
        result = (await poisoned(fleet, seed=3)).result("poison", "", 3)
    assert not result.violations, violations(result.findings)
    assert result.faults["node"]["done"] == 3
    assert result.ends == {"failed request_poisonous": 1, "answered": BESIDE + AFTERWARDS}
