"""What a node may ask for: never more than its share of any minute, and all that it holds comes back."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workernode.remote.allowance import AT_ONCE_MIN, LISTEN_S, MORE_EVERY_S, TAKEN_S, Allowance, Limits
from workernode.remote.bucket import Bucket
from workernode.remote.minute import Minute
from workernode.remote.rate import FOUND_PART_MIN, GUESS_MIN, PER_MIN_MIN, REST_S_MAX, Rate
from workernode.remote.stated import Stated

pauses = st.floats(0, 30)
amounts = st.floats(0.1, 50)


@given(st.floats(0.01, 100), st.floats(1, 50), st.lists(st.tuples(pauses, amounts), max_size=40))
def test_a_bucket_that_is_asked_gives_no_more_than_its_burst_and_its_rate(
    per_s: float, burst: float, asks: list[tuple[float, float]]
) -> None:
    bucket, now, taken = Bucket(per_s, burst, 0.0), 0.0, 0.0
    for pause, amount in asks:
        amount = min(amount, burst)
        now += pause
        wait_s = bucket.wait_s(amount, now)
        if wait_s:
            now += wait_s
            assert bucket.wait_s(amount, now) == 0  # it says exactly when
        bucket.take(amount, now)
        taken += amount
        assert taken <= burst + per_s * (now + 0.001) + 1e-6


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 100))
def test_what_is_given_back_is_there_again(per_s: float, amount: float, now: float) -> None:
    bucket = Bucket(per_s, 5.0, now)
    bucket.take(amount, now)
    bucket.take(-amount, now)
    assert bucket.available(now) == pytest.approx(5.0)


def test_what_is_held_for_others_leaves_no_room() -> None:
    bucket = Bucket(1.0, 2.0, 0.0)
    assert bucket.wait_s(1, 0.0, held=1) == 0
    assert bucket.wait_s(1, 0.0, held=2) == math.inf
    bucket.take(1, 0.0)
    assert bucket.wait_s(1, 0.0, held=1) == 1


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 5)), max_size=60), st.integers(0, 20))
def test_a_minute_forgets_after_a_minute_and_tells_when(uses: list[tuple[float, int]], most: int) -> None:
    minute, now, log = Minute(), 0.0, []
    for pause, amount in uses:
        now += pause
        minute.add(amount, now)
        log.append((now, amount))
        inside = sum(amount for at, amount in log if at > now - 60)
        assert inside <= minute.total(now) <= sum(amount for at, amount in log if at > now - 62)
    wait_s = minute.wait_s(most, now)
    assert wait_s <= 61.01
    assert wait_s == 0 or minute.total(now + wait_s - 0.01) > most
    assert minute.total(now + wait_s + 0.01) <= most


@given(
    limit=st.integers(1, 500),
    nodes=st.integers(1, 30),
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=120),
)
@example(limit=30, nodes=4, pauses=[0.0] * 120)
def test_all_nodes_together_never_have_more_than_the_limit_in_a_minute(
    limit: int, nodes: int, pauses: list[float]
) -> None:
    """Each takes as soon as it may, from the same moment on: the worst that can be."""
    taken: list[float] = []
    for rank in range(min(nodes, limit)):
        rate = Rate(limit)
        rate.nodes, rate.rank, now = nodes, rank, 0.0
        for pause in pauses:
            now += max(pause, rate.wait_s(1, now))
            rate.take(1, now)
            taken.append(now)
    if limit < nodes:
        return  # shares of less than one a minute cannot be kept apart without a common clock
    taken.sort()
    for first, at in enumerate(taken):
        if first + limit < len(taken):
            assert taken[first + limit] >= at + 60


def test_a_limit_that_does_not_divide_evenly_is_used_all_the_same() -> None:
    taken = 0
    for rank in range(4):
        rate = Rate(30)
        rate.nodes, rate.rank, now = 4, rank, 0.0
        while now < 600:
            rate.take(1, now)
            taken += 1
            now += rate.wait_s(1, now)
    assert 0.97 <= taken / 300 <= 1.03


@given(limit=st.integers(20, 2000), seconds=st.integers(120, 300))
@settings(max_examples=20)
def test_a_node_alone_uses_its_limit(limit: int, seconds: int) -> None:
    rate, now, taken = Rate(limit), 0.0, 0
    while now < seconds:
        wait_s = rate.wait_s(1, now)
        now += wait_s
        rate.take(1, now)
        taken += 1
    assert 0.95 <= taken / (limit * now / 60) <= 1.05


def test_what_was_used_before_a_limit_was_known_counts() -> None:
    rate = Rate(None)
    for _ in range(30):
        assert rate.wait_s(1, 0.0) == 0
        rate.take(1, 0.0)
    rate.learn(Stated("requests", None, 40, 10, 59.0), 1.0)
    assert rate.wait_s(1, 1.0) > 30


def test_near_the_limit_what_is_left_is_spread_and_at_the_limit_nothing_is_taken() -> None:
    rate = Rate(None)
    rate.learn(Stated("requests", 60.0, 600, 300, 20.0), 0.0)
    fast = rate.per_s(0.0)
    assert fast is not None
    rate.learn(Stated("requests", 60.0, 600, 10, 20.0), 1.0)
    assert rate.per_s(1.0) == pytest.approx(0.5)
    rate.learn(Stated("requests", 60.0, 600, 0, 20.0), 2.0)
    assert rate.wait_s(1, 2.0) >= 20
    assert rate.per_s(30.0) == pytest.approx(fast)


def test_the_reset_of_a_bucket_is_not_waited_for() -> None:
    """OpenAI's says when all is there again: of 600 used ones that takes a minute, and the next is there in 0.1 s."""
    rate = Rate(None)
    rate.learn(Stated("requests", None, 600, 0, 60.0), 0.0)
    assert rate.wait_s(1, 0.0) == 0


def test_a_limit_of_a_day_is_no_pace_but_its_end_is_heeded() -> None:
    rate = Rate(None)
    rate.learn(Stated("requests", 86_400.0, 200, 100, 40_000.0), 0.0)
    assert rate.limit(0.0) is None
    rate.learn(Stated("requests", 86_400.0, 200, 0, 40_000.0), 1.0)
    assert rate.wait_s(1, 1.0) == REST_S_MAX


def test_what_is_left_of_a_limit_without_a_period_is_heeded_where_it_is_nothing() -> None:
    """OpenRouter's and the draft standard's headers: they are no pace."""
    rate = Rate(None)
    rate.learn(Stated("requests", None, None, 1, 30.0), 0.0)
    assert (rate.limit(0.0), rate.wait_s(1, 0.0)) == (None, 0.0)
    rate.learn(Stated("requests", None, None, 0, 30.0), 1.0)
    assert (rate.limit(1.0), rate.wait_s(1, 1.0)) == (None, 30.0)


def test_a_setting_bounds_what_is_stated_and_what_is_said_by_others() -> None:
    rate = Rate(100)
    rate.told = 1_000_000
    rate.learn(Stated("requests", None, 600, 599, 0.1), 0.0)
    assert rate.limit(0.0) == 100
    rate.learn(Stated("requests", None, 60, 59, 1.0), 1.0)
    assert rate.limit(1.0) == 60


@pytest.mark.parametrize("told", [-5, 0.001, 1])
def test_what_others_say_slows_down_and_never_stops(told: float) -> None:
    rate = Rate(None)
    rate.told, rate.nodes = told, 1000
    rate.take(1, 0.0)
    assert 0 < rate.wait_s(1, 0.0) <= 60 / PER_MIN_MIN * 1.1


def test_a_refusal_in_a_quiet_minute_shows_little() -> None:
    rate = Rate(None)
    for _ in range(3):
        rate.take(1, 0.0)
    rate.refused(1.0, 1.0)
    assert rate.limit(1.0) == GUESS_MIN
    rate.refused(1.0, 5.0)
    assert rate.limit(5.0) == GUESS_MIN * FOUND_PART_MIN


@given(
    refusals=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60)), max_size=20),
    configured=st.none() | st.just(100.0),
)
def test_a_limit_that_refusals_lowered_comes_back(
    refusals: list[tuple[float, float]], configured: float | None
) -> None:
    rate, now = Rate(configured), 0.0
    for pause, wait_s in refusals:
        now += pause
        rate.take(1, now)
        rate.refused(wait_s, now)
        limit = rate.limit(now)
        assert limit is None or limit >= PER_MIN_MIN
    if configured is not None:
        assert rate.limit(now + 24 * 3600) == configured
    for days in (1, 10, 30, 60, 1000):
        limit = rate.limit(now + days * 24 * 3600)
        assert limit is None or math.isfinite(limit), "a node runs for as long"
    assert limit == configured


class Calls(RuleBasedStateMachine):
    """Permits go out and come back in any order; what is known changes meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.allowance = Allowance(Limits(600, 100_000, 8), self.now)
        self.out = self.running = 0
        self.nodes = 1

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_permit_goes_out(self) -> None:
        if self.allowance.wait_s(self.now) == 0:
            self.allowance.permit(self.now)
            self.out += 1
            assert self.out + self.running <= (1 if self.now < LISTEN_S else max(1, 8 // self.nodes))

    @precondition(lambda self: self.out)
    @rule(used=st.booleans())
    def it_comes_back(self, used: bool) -> None:
        self.allowance.withdraw()
        self.out -= 1
        if used:
            self.allowance.begin(self.now)
            self.running += 1

    @precondition(lambda self: self.running)
    @rule(called=st.booleans(), used=st.floats(0, 5000))
    def a_request_ends(self, called: bool, used: float) -> None:
        if called:
            self.allowance.reserve(200, self.now)
            self.allowance.settle(200, used, self.now)
        self.allowance.end(self.now, called=called)
        self.running -= 1

    @rule(nodes=st.integers(1, 20), rank=st.integers(0, 19))
    def others_come_and_go(self, nodes: int, rank: int) -> None:
        self.nodes = nodes
        self.allowance.share(nodes, min(rank, nodes - 1), {})

    @rule(remaining=st.integers(0, 600), reset_s=st.floats(0, 90))
    def the_provider_states(self, remaining: int, reset_s: float) -> None:
        self.allowance.learn([Stated("requests", None, 600, remaining, reset_s)], self.now)

    @rule(wait_s=st.floats(0, 60))
    def the_provider_refuses(self, wait_s: float) -> None:
        self.allowance.refused(wait_s, self.now)

    @invariant()
    def it_never_waits_for_ever_for_nothing(self) -> None:
        if not self.out and not self.running:
            assert self.allowance.wait_s(self.now) < math.inf


TestCalls = Calls.TestCase


def test_of_an_unknown_provider_each_call_that_it_takes_allows_one_more() -> None:
    allowance = Allowance(Limits(), 0.0)
    for most in (AT_ONCE_MIN, 2 * AT_ONCE_MIN, 4 * AT_ONCE_MIN):
        calls = 0
        while allowance.wait_s(1.0) == 0:
            allowance.permit(1.0)
            allowance.withdraw()
            allowance.begin(1.0)
            calls += 1
        assert calls == most
        for _ in range(calls):
            allowance.accepted()
            allowance.end(1.0, called=True)


def test_of_an_unknown_provider_that_refuses_nothing_more_calls_go_out_one_by_one() -> None:
    allowance = Allowance(Limits(), 0.0)
    for _ in range(AT_ONCE_MIN):
        assert allowance.wait_s(10.0) == 0
        allowance.permit(10.0)
    # Slots that wait for requests show nothing of the provider.
    assert allowance.wait_s(100.0) == math.inf
    for _ in range(AT_ONCE_MIN):
        allowance.withdraw()
        allowance.begin(100.0)
    assert allowance.wait_s(100.0) == TAKEN_S
    now = 100.0 + TAKEN_S
    for _ in range(3):
        assert allowance.wait_s(now) == 0
        allowance.permit(now)
        allowance.withdraw()
        allowance.begin(now)
        assert allowance.wait_s(now) == MORE_EVERY_S
        now += MORE_EVERY_S
    # Of another credential, nothing that was learnt holds a call up.
    allowance.forget()
    assert allowance.wait_s(now) == 0


def test_tokens_are_reserved_before_and_settled_after() -> None:
    allowance = Allowance(Limits(tokens_per_min=6000), 0.0)
    rate = allowance.rates["tokens"]

    def call(reserved: float) -> None:
        allowance.permit(10.0)
        allowance.withdraw()
        allowance.begin(10.0)
        allowance.reserve(reserved, 10.0)

    call(3000)
    waited_s = rate.wait_s(1, 10.0)
    assert waited_s > 25
    allowance.settle(3000, 300, 10.0)
    settled_s = rate.wait_s(1, 10.0)
    assert 1 < settled_s < 4
    allowance.end(10.0, called=True)
    call(3000)
    assert rate.wait_s(1, 10.0) > waited_s
    allowance.settle(3000, 0, 10.0)
    assert rate.wait_s(1, 10.0) == pytest.approx(settled_s)
