"""When a node takes a gateway for dead."""

from __future__ import annotations

import pytest

from workernode.silence import Silence


def echoes(silence: Silence, start: float, end: float) -> float | None:
    """Hear an echo four times a second; the time at which the gateway is found gone."""
    now = start
    while now <= end:
        if silence.asks(now) and silence.echo_heard(now):
            return now
        now += 0.25
    return None


def test_five_seconds_without_acknowledgement_while_the_echo_is_heard_are_a_death() -> None:
    silence = Silence(5.0)
    silence.begin(100.0)
    assert echoes(silence, 100.0, 110.0) == pytest.approx(105.0)


def test_an_acknowledgement_ends_the_silence() -> None:
    silence = Silence(5.0)
    silence.begin(100.0)
    assert echoes(silence, 100.0, 104.0) is None
    silence.end()
    assert not silence.asks(106.0)
    assert not silence.echo_heard(106.0)
    silence.begin(106.0)
    assert echoes(silence, 106.0, 110.9) is None


def test_time_in_which_this_node_heard_not_even_itself_does_not_count() -> None:
    """The broker was away for twenty seconds; the gateway comes back two seconds after this node."""
    silence = Silence(5.0)
    silence.begin(100.0)
    assert echoes(silence, 120.0, 122.0) is None
    assert echoes(silence, 122.0, 130.0) == pytest.approx(125.0)


def test_an_outage_in_the_middle_begins_the_count_anew() -> None:
    silence = Silence(5.0)
    silence.begin(100.0)
    assert echoes(silence, 100.0, 104.5) is None
    assert echoes(silence, 110.0, 114.5) is None


def test_a_suspect_is_judged_sooner() -> None:
    silence = Silence(1.0)
    silence.begin(100.0)
    assert echoes(silence, 100.0, 110.0) == pytest.approx(101.0)


def test_what_is_said_meanwhile_prolongs_no_silence() -> None:
    silence = Silence(5.0)
    silence.begin(100.0)
    assert echoes(silence, 100.0, 103.0) is None
    silence.begin(103.0)
    assert echoes(silence, 103.0, 110.0) == pytest.approx(105.0)


@pytest.mark.parametrize(("lost_after_s", "asks_after_s"), [(5.0, 1.0), (1.0, 0.5)])
def test_the_own_echo_is_asked_for_once_an_acknowledgement_is_late(lost_after_s: float, asks_after_s: float) -> None:
    silence = Silence(lost_after_s)
    assert not silence.asks(100.0)
    silence.begin(100.0)
    assert not silence.asks(100.0 + asks_after_s - 0.01)
    assert silence.asks(100.0 + asks_after_s)
