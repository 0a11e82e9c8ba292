"""An episode of trouble has one beginning and one end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wire.errors import ErrorBody
from wire.usage import Usage
from workernode.condition import FAILURES_IN_A_ROW, TRY_AGAIN_S_MAX, TRY_AGAIN_S_MIN, Better, Condition, Worse
from workernode.gate import Gate
from workernode.outcome import Answered, Cancelled, Interrupted, Later, Refused

ANSWERED = Answered(Usage())


def later(code: str, retry_after_ms: int | None = None) -> Later:
    return Later(ErrorBody(code=code, message="It failed.", retry_after_ms=retry_after_ms))


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("upstream_authentication_failed", "authentication_failed"),
        ("upstream_quota_exhausted", "quota_exhausted"),
        ("upstream_model_unknown", "misconfigured"),
    ],
)
def test_the_first_failure_begins_an_episode_and_the_first_answer_ends_it(code: str, state: str) -> None:
    condition = Condition()
    worse = condition.after(later(code), trying=False)
    assert isinstance(worse, Worse)
    assert (worse.state, worse.news, condition.state) == (state, True, state)
    assert condition.after(later(code), trying=False) is None
    assert isinstance(condition.after(ANSWERED, trying=True), Better)
    assert condition.after(ANSWERED, trying=False) is None
    assert condition.state == "ready"


def test_each_failed_try_waits_longer_up_to_a_bound_and_is_no_news() -> None:
    condition = Condition()
    first = condition.after(later("upstream_quota_exhausted"), trying=False)
    assert isinstance(first, Worse)
    waits = [first.again_s]
    for _ in range(12):
        worse = condition.after(later("upstream_quota_exhausted"), trying=True)
        assert isinstance(worse, Worse)
        assert not worse.news
        waits.append(worse.again_s)
    assert waits == [1, 2, 4, 8, 16, 32, *[TRY_AGAIN_S_MAX] * 7]
    condition.after(ANSWERED, trying=True)
    again = condition.after(later("upstream_quota_exhausted"), trying=False)
    assert isinstance(again, Worse)
    assert again.again_s == TRY_AGAIN_S_MIN


def test_the_providers_own_figure_is_the_least_wait() -> None:
    worse = Condition().after(later("upstream_quota_exhausted", 90_000), trying=False)
    assert isinstance(worse, Worse)
    assert worse.again_s == 90


def test_single_failures_are_nothing_but_a_row_of_them_is() -> None:
    condition = Condition()
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert condition.after(later("upstream_failed"), trying=False) is None
    assert condition.after(Refused(ErrorBody(code="x", message="x")), trying=False) is None
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert condition.after(later("upstream_failed"), trying=False) is None
    assert isinstance(condition.after(later("upstream_failed"), trying=False), Worse)
    assert condition.state == "unreachable"


@pytest.mark.parametrize("outcome", [Interrupted(), Cancelled("cancelled", Usage())])
def test_what_was_not_the_upstreams_doing_says_nothing_about_it(outcome: Interrupted | Cancelled) -> None:
    condition = Condition()
    condition.after(later("upstream_quota_exhausted"), trying=False)
    assert condition.after(outcome, trying=True) is None
    assert condition.state == "quota_exhausted"


def test_a_try_that_meets_with_something_else_does_not_end_an_episode() -> None:
    condition = Condition()
    first = condition.after(later("upstream_quota_exhausted"), trying=False)
    assert isinstance(first, Worse)
    for code in ("upstream_failed", "upstream_timeout", "upstream_quota_exhausted"):
        worse = condition.after(later(code), trying=True)
        assert isinstance(worse, Worse)
        assert (worse.state, worse.sentence, worse.news) == ("quota_exhausted", first.sentence, False)
    other = condition.after(later("upstream_authentication_failed"), trying=True)
    assert isinstance(other, Worse)
    assert (other.state, other.news) == ("authentication_failed", True)


def refused(upstream: Any) -> Refused:
    return Refused(ErrorBody(code="x", message="x"), upstream=upstream)


def test_a_refusal_of_our_own_says_nothing_about_the_upstream() -> None:
    condition = Condition()
    condition.after(later("upstream_authentication_failed"), trying=False)
    assert condition.after(refused("unknown"), trying=True) is None
    assert condition.state == "authentication_failed"
    assert isinstance(condition.after(refused("well"), trying=True), Better)


def test_an_upstream_that_only_lets_deadlines_pass_is_unreachable_in_the_end() -> None:
    condition = Condition()
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert condition.after(refused("silent"), trying=False) is None
        assert condition.after(refused("unknown"), trying=False) is None
    worse = condition.after(refused("silent"), trying=False)
    assert isinstance(worse, Worse)
    assert (worse.state, "FIRST_TOKEN_TIMEOUT_S" in worse.sentence) == ("unreachable", True)


def test_a_provider_that_limits_the_rate_is_there_and_knows_the_key() -> None:
    condition = Condition()
    assert condition.after(later("upstream_rate_limited"), trying=False) is None
    condition.after(later("upstream_authentication_failed"), trying=False)
    assert isinstance(condition.after(later("upstream_rate_limited"), trying=True), Better)


def test_a_provider_that_was_left_alone_for_its_limits_has_not_answered() -> None:
    condition = Condition()
    condition.after(later("upstream_quota_exhausted"), trying=False)
    own = Later(ErrorBody(code="upstream_rate_limited", message="x"), asked=False)
    assert condition.after(own, trying=True) is None
    assert condition.state == "quota_exhausted"


def test_what_a_provider_was_never_asked_is_not_held_against_it() -> None:
    condition = Condition()
    for _ in range(2 * FAILURES_IN_A_ROW):
        assert condition.after(later("cannot_continue"), trying=False) is None
    assert condition.state == "ready"


async def test_a_closed_gate_lets_in_one_to_try_and_an_open_one_everybody() -> None:
    gate = Gate()
    waiting = [asyncio.ensure_future(gate.enter()) for _ in range(5)]
    gate.admit_one()
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert [task.result() for task in done] == [True]
    gate.open()
    assert sorted(await asyncio.gather(*waiting)) == [False] * 4 + [True]
    assert await gate.enter() is False
    gate.close()
    gate.admit_one()
    assert await gate.enter() is True
