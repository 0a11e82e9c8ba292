"""When a process of a gateway is started again, how soon, and when not."""

from __future__ import annotations

import signal

import pytest

from gateway.processes.restarts import EXIT_HOPELESS, STARTS_MAX, Restarts
from process.lifecycle import EXIT_PORT_IN_USE, GivenUp
from process.restarts import PAUSE_S_MAX, STEADY_S, how
from process.settings import EXIT_WRONG_SETTING

KILLED = -signal.SIGKILL


def test_one_that_was_well_for_long_is_replaced_at_once() -> None:
    restarts = Restarts()
    for _ in range(100):
        assert restarts.ended(1, KILLED, STEADY_S, others_ready=False) == 0
    assert restarts.count == 100


def test_one_that_dies_again_and_again_waits_longer_each_time_and_alone() -> None:
    restarts = Restarts()
    pauses = [restarts.ended(1, KILLED, 1.0, others_ready=False) for _ in range(5_000)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == PAUSE_S_MAX
    assert restarts.ended(2, KILLED, 1.0, others_ready=True) == 0.1
    restarts.ended(1, KILLED, STEADY_S, others_ready=True)
    assert restarts.ended(1, KILLED, 1.0, others_ready=True) == 0.1, "it was well in between"


@pytest.mark.parametrize("code", [EXIT_WRONG_SETTING, EXIT_PORT_IN_USE])
def test_what_a_process_says_of_its_settings_is_the_gateways_exit_code(code: int) -> None:
    with pytest.raises(GivenUp) as given_up:
        Restarts().ended(1, code, None, others_ready=False)
    assert given_up.value.exit_code == code


def test_it_is_hopeless_once_several_end_before_any_takes_requests() -> None:
    restarts = Restarts()
    for number in range(1, STARTS_MAX):
        restarts.ended(number % 2, 1, None, others_ready=False)
    with pytest.raises(GivenUp, match="the last one by SIGKILL") as given_up:
        restarts.ended(2, KILLED, None, others_ready=False)
    assert given_up.value.exit_code == EXIT_HOPELESS


def test_while_another_serves_or_after_it_did_nothing_is_given_up() -> None:
    restarts = Restarts()
    for _ in range(10 * STARTS_MAX):
        restarts.ended(1, EXIT_WRONG_SETTING, None, others_ready=True)
    for _ in range(10):
        for _ in range(STARTS_MAX - 1):
            restarts.ended(1, 1, None, others_ready=False)
        restarts.ready()


@pytest.mark.parametrize(
    ("code", "words"), [(0, "with code 0"), (3, "with code 3"), (KILLED, "by SIGKILL"), (-200, "by signal 200")]
)
def test_how_a_process_ended_is_told_in_words(code: int, words: str) -> None:
    assert how(code) == words
