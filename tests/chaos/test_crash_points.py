"""A process that dies at any named place loses nothing, doubles nothing and mixes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.chaos.fleet import ChaosFleet
from tests.chaos.points import PointsFleet, points
from tests.chaos.table import violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.pulsar_server import PulsarServer

pytestmark = pytest.mark.pulsar
SEED = 7


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(pulsar_server: PulsarServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PointsFleet]:
    """What all points share: starting processes is what takes time."""
    async with ChaosFleet(pulsar_server, tmp_path_factory.mktemp("points")) as started:
        fleet = PointsFleet(started, SEED)
        await fleet.start()
        yield fleet


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("role", "point"), points(), ids=lambda value: str(value))
async def test_a_death_at_this_point_breaks_no_invariant(fleet: PointsFleet, role: str, point: str) -> None:
    findings = await fleet.crash_at(role, point)
    assert not violations(findings), violations(findings)


def test_every_role_has_crash_points_and_no_name_is_used_twice() -> None:
    found = points()
    assert {role for role, _ in found} == {"node", "gateway", "management"}
    assert len(found) == len(set(found)) >= 17
