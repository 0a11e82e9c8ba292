"""What management makes of gateways' reports."""

from __future__ import annotations

from typing import Any

import pytest

from management.fleet.backlogs import GATEWAYS_MAX, MODELS_MAX, NAMED_S, WINDOW_S, Backlogs, Traffic
from wire.backlog import BACKLOG_LOST_S, BacklogReport, ModelBacklog


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report(gateway: str, sent_ms: int, *models: ModelBacklog) -> BacklogReport:
    return BacklogReport(gateway=gateway, sent_ms=sent_ms, models=models)


def small(**told: Any) -> ModelBacklog:
    return ModelBacklog(model="small", **told)


def test_the_gateways_together_tell_what_waits_and_since_when(clock: Clock) -> None:
    backlogs = Backlogs(clock)
    backlogs.hear(report("gateway-a", 1, small(waiting=3, running=2, accepted=5, oldest_ms=70)))
    backlogs.hear(report("gateway-b", 1, small(waiting=1, accepted=9, oldest_ms=60), ModelBacklog(model="other")))
    assert backlogs.of("small") == Traffic(waiting=4, running=2, oldest_ms=60)
    assert backlogs.models == {"small", "other"}
    assert backlogs.of("none") == Traffic()


def test_rates_are_what_came_and_went_in_the_last_minute(clock: Clock) -> None:
    backlogs = Backlogs(clock)
    backlogs.hear(report("gateway-a", 1, small(accepted=100)))
    for _ in range(WINDOW_S // 10):
        clock.now += 10
        backlogs.hear(report("gateway-a", 1, small(accepted=100)))
    backlogs.hear(report("gateway-a", 2, small(accepted=160, waiting=10, running=20)))
    assert (backlogs.of("small").in_per_s, backlogs.of("small").out_per_s) == (1.0, 0.5)
    clock.now += 10
    backlogs.hear(report("gateway-a", 3))  # of what is not named nothing is open
    assert (backlogs.of("small").in_per_s, backlogs.of("small").out_per_s) == (1.0, 1.0)
    for _ in range(6):  # the reports go on
        clock.now += 10
        backlogs.hear(report("gateway-a", 4, small(accepted=160)))
    assert (backlogs.of("small").in_per_s, backlogs.of("small").out_per_s) == (0.0, 0.0)


def test_rates_of_the_first_minute_are_of_the_time_that_was_listened(clock: Clock) -> None:
    backlogs = Backlogs(clock)

    def rates() -> tuple[float, float]:
        found = backlogs.of("small")
        return found.in_per_s, found.out_per_s

    backlogs.hear(report("gateway-a", 1, small(accepted=100)))
    clock.now += 0.5
    backlogs.hear(report("gateway-a", 2, small(accepted=103, running=3)))
    assert rates() == (3.0, 0.0), "of a second at least"
    clock.now += 0.4
    last = report("gateway-a", 3, small(accepted=104, running=3))
    backlogs.hear(last)
    assert rates() == (4.0, 1.0)
    while clock.now < 1000 + WINDOW_S - 1:
        clock.now += 1
        backlogs.hear(last)
    clock.now = 1000 + WINDOW_S - 0.5
    assert rates() == (round(4 / 59.5, 3), round(1 / 59.5, 3))
    clock.now = 1000 + WINDOW_S
    assert rates() == (0.0, 0.0)


def test_a_gateway_that_is_silent_or_reports_of_the_past_does_not_count(clock: Clock) -> None:
    backlogs = Backlogs(clock)
    backlogs.hear(report("gateway-a", 5, small(waiting=3)))
    backlogs.hear(report("gateway-a", 4, small(waiting=9)))
    assert backlogs.of("small").waiting == 3
    clock.now += BACKLOG_LOST_S + 1
    assert backlogs.of("small") == Traffic()
    assert backlogs.models == set()


def test_a_flood_of_forged_reports_takes_no_more_room_than_allowed(clock: Clock) -> None:
    backlogs = Backlogs(clock)
    for number in range(GATEWAYS_MAX + 5):
        backlogs.hear(report(f"gateway-{number}", 1, small(waiting=1)))
    assert backlogs.of("small").waiting == GATEWAYS_MAX
    for sent_ms in range(2, 5):
        names = (ModelBacklog(model=f"{sent_ms}-{number}") for number in range(MODELS_MAX))
        backlogs.hear(report("gateway-0", sent_ms, *names, ModelBacklog(model="beyond")))
    assert len(backlogs.models) == MODELS_MAX + 1  # and "small" of the others
    backlogs.hear(report("gateway-0", 9, ModelBacklog(model=""), ModelBacklog(model="a\nb"), small()))
    assert not {"", "a\nb"} & backlogs.models


def test_a_model_of_which_nothing_was_told_for_an_hour_is_none_of_the_fleets(clock: Clock) -> None:
    backlogs = Backlogs(clock)
    backlogs.hear(report("gateway-a", 1, small(waiting=1, accepted=100_000), ModelBacklog(model="old", accepted=7)))
    hours = round(24 * NAMED_S / 10)
    for sent_ms in range(2, hours):
        clock.now += 10
        backlogs.hear(report("gateway-a", sent_ms, small(waiting=1, accepted=100_000)))
        assert backlogs.models == ({"small", "old"} if 10 * (sent_ms - 1) <= NAMED_S else {"small"})
    # How many were let in before is remembered: that they come again is no burst.
    backlogs.hear(report("gateway-a", hours, ModelBacklog(model="old", accepted=67, running=60)))
    assert backlogs.models == {"small", "old"}
    assert backlogs.of("old").in_per_s == 1.0
