"""Many nodes use one key to its limit and never past it, in simulated time: hours in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.paced_fleet import PacedFleet
from tests.simulation.provider_limits import FixedWindow, SlidingWindow, TokenBucket, UsedByOthers
from workernode.remote.allowance import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.provider_limits import Limiter

LIMIT, REQUESTS, NODES = 600, 5000, 20
LIMITERS = [SlidingWindow, FixedWindow, TokenBucket]
HOUR_S = 3600.0


@pytest.mark.parametrize("limiter", LIMITERS)
def test_20_nodes_use_a_limit_that_is_set_and_no_more(limiter: Callable[[int], Limiter]) -> None:
    fleet = PacedFleet(limiter(LIMIT), nodes=NODES, limits=Limits(requests_per_min=LIMIT), headers="none")
    fleet.ask(REQUESTS)
    fleet.run()
    assert fleet.answered == REQUESTS
    assert fleet.used >= 0.95
    assert fleet.refused <= REQUESTS * 0.01


@pytest.mark.parametrize("limiter", LIMITERS)
def test_20_nodes_use_a_limit_that_only_the_headers_state(limiter: Callable[[int], Limiter]) -> None:
    fleet = PacedFleet(limiter(LIMIT), nodes=NODES, limits=Limits())
    fleet.ask(REQUESTS)
    fleet.run()
    assert fleet.answered == REQUESTS
    assert fleet.used >= 0.95
    assert fleet.refused <= REQUESTS * 0.03


@pytest.mark.parametrize("headers", ["retry-after", "none"])
@pytest.mark.parametrize("limiter", LIMITERS)
def test_a_limit_that_nobody_states_is_found_without_a_storm(limiter: Callable[[int], Limiter], headers: str) -> None:
    fleet = PacedFleet(limiter(LIMIT), nodes=NODES, limits=Limits(), headers=headers)
    fleet.ask(REQUESTS)
    fleet.run()
    assert fleet.answered == REQUESTS
    assert fleet.refused <= REQUESTS * 0.03
    assert fleet.used >= 0.6


def test_a_day_with_limits_outages_and_deaths_has_one_event_for_each_episode() -> None:
    used_by_others = tuple((hour * HOUR_S, hour * HOUR_S + 60.0 * minutes) for hour, minutes in LIMITED)
    limiter = UsedByOthers(SlidingWindow(30), used_by_others)
    fleet = PacedFleet(limiter, nodes=4, limits=Limits(requests_per_min=30), headers="retry-after", slots=8)
    for minute in range(24 * 60):
        fleet.clock.at(minute * 60.0, lambda: fleet.ask(12))
    for hour, minutes in OUTAGES:
        fleet.clock.at(hour * HOUR_S, lambda: setattr(fleet, "down", True))
        fleet.clock.at(hour * HOUR_S + 60.0 * minutes, lambda: setattr(fleet, "down", False))
    first, second, third, fourth = fleet.nodes
    # In the middle of an episode one dies, one leaves, and one comes that would have had to tell, had it been there.
    fleet.clock.at(7 * HOUR_S + 200, lambda: fourth.leave(in_order=False))
    fleet.clock.at(7 * HOUR_S + 300, lambda: third.leave(in_order=True))
    fleet.clock.at(7 * HOUR_S + 400, lambda: fleet.start("node-"))
    fleet.run(at_least_s=24 * HOUR_S)
    assert fleet.answered == fleet.requests == 24 * 60 * 12
    assert fleet.told["limited"] == fleet.told["recovered"] == len(LIMITED)
    # What was under way when it began, and then one at a time.
    limited_s = sum(end - start for start, end in used_by_others)
    assert fleet.refused <= len(LIMITED) * 12 + limited_s / limiter.wait_s
    for node in (first, second):
        states = [kind for _, name, kind in fleet.events if name == node.name and kind in ("unreachable", "well")]
        assert states == ["unreachable", "well"] * len(OUTAGES)


LIMITED = ((1, 3), (4, 20), (7, 30), (11, 1), (16, 45), (22, 10))
"""Hour and minutes of each episode."""
OUTAGES = ((2, 5), (9, 30), (19, 2))
