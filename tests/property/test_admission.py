"""Who may wait, and for how long: the arithmetic, for whatever nodes say of themselves."""

from __future__ import annotations

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.models.capacity import GROUPS_MAX, Capacity, Group, ModelNodes
from gateway.queue.admission import Standing, admit
from gateway.queue.backlog import Counts
from wire.errors import Overloaded
from wire.presence import Presence

NOW_MS = 1_700_000_000_000
HORIZON_MS = 3_600_000

slots = st.integers(1, 5000)
rates = st.floats(1e-4, 100.0)  # waits of months at most: beyond, a millisecond is less than what floats keep
groups = st.builds(Group, st.integers(NOW_MS - HORIZON_MS, NOW_MS + HORIZON_MS), slots, rates)
capacities = st.builds(
    lambda here, later, service_ms: Capacity((*here, *sorted(later, key=lambda each: each.from_ms)), service_ms),
    st.lists(st.builds(Group, st.just(0), slots, rates), max_size=1),
    st.lists(groups, max_size=4),
    st.floats(1.0, 1e6),
).filter(lambda capacity: bool(capacity.groups))
requests = st.integers(0, 1_000_000)
lefts = st.integers(1, 24 * 3_600_000)

wild = st.integers(-(2**63), 2**64 - 1)
wild_nodes = st.builds(
    Presence,
    node=st.sampled_from(["node-a", "node-b", "node-c", "node-d"]),
    name=st.just("n"),
    model=st.just("m"),
    type=st.just("remote"),
    version=st.just("1"),
    state=st.sampled_from(["ready", "rate_limited", "draining", "starting", "misconfigured", "unreachable"]),
    slots=wild | st.integers(0, 3),
    busy=wild | st.integers(0, 3),
    service_ms=st.none() | wild | st.integers(0, 3),
    until_ms=st.none() | st.integers(0, 2**53 - 1) | st.integers(NOW_MS, NOW_MS + 5000),
    endpoints=st.lists(st.sampled_from(["chat/completions", "embeddings"]), max_size=3).map(tuple),
    continues=st.booleans(),
    sent_ms=st.just(1),
    started_ms=st.just(1),
)


def wait(capacity: Capacity, count: int) -> float:
    wait_ms = capacity.begun_ms(count, NOW_MS)
    return math.inf if wait_ms is None else wait_ms


def asked(capacity: Capacity, counts: Counts, left_ms: int, now_ms: int) -> tuple[Standing | None, int]:
    """Where a newcomer stands, or when to come again."""
    try:
        return admit(capacity, counts, left_ms, now_ms, 1000), 0
    except Overloaded as refused:
        return None, refused.retry_after_ms or 0


@given(capacities, requests, requests)
def test_more_work_ahead_never_shortens_the_wait(capacity: Capacity, few: int, more: int) -> None:
    assert wait(capacity, 1 + few) <= wait(capacity, 1 + few + more) * (1 + 1e-9)


@given(capacities, requests, groups)
def test_another_node_never_lengthens_the_wait(capacity: Capacity, count: int, group: Group) -> None:
    larger = Capacity(tuple(sorted((*capacity.groups, group), key=lambda each: each.from_ms)), capacity.service_ms)
    assert wait(larger, count) <= wait(capacity, count) * (1 + 1e-9) + 1e-6


@given(capacities, requests, requests, lefts)
def test_a_free_slot_is_never_refused(capacity: Capacity, waiting: int, running: int, left_ms: int) -> None:
    free = capacity.slots(NOW_MS)
    assume(free)
    waiting %= free
    running %= free - waiting
    assert admit(capacity, Counts(waiting, running), left_ms, NOW_MS, 1) == Standing(0, 0)


@given(capacities, requests, requests, lefts)
def test_who_is_refused_would_be_admitted_after_the_time_it_is_told(
    capacity: Capacity, waiting: int, running: int, left_ms: int
) -> None:
    """The nodes go on at their rates, from when they take requests; one after the other ends; nobody else comes."""
    standing, again_ms = asked(capacity, Counts(waiting, running), left_ms, NOW_MS)
    assume(standing is None)
    later_ms = NOW_MS + again_ms
    done = sum(group.rate * max(0, later_ms - max(NOW_MS, group.from_ms)) for group in capacity.groups)
    left = max(0, waiting + running - math.floor(done * (1 + 1e-12) + 1e-9))
    assert asked(capacity, Counts(left), left_ms, later_ms)[0]


@given(capacities, requests, lefts)
def test_who_is_admitted_is_expected_to_be_answered_in_time(capacity: Capacity, waiting: int, left_ms: int) -> None:
    standing, _ = asked(capacity, Counts(waiting), left_ms, NOW_MS)
    assume(standing is not None)
    assert standing is not None
    assert standing.eta_ms is not None
    assert capacity.service_ms is not None
    assert standing.eta_ms == 0 or standing.eta_ms - 1 + capacity.service_ms <= left_ms


@given(st.lists(wild_nodes, max_size=8), st.integers(0, 2**63), st.integers(0, 2**63), st.integers(-(2**53), 2**53))
def test_whatever_nodes_say_the_answer_is_a_number(
    said: list[Presence], waiting: int, running: int, left_ms: int
) -> None:
    nodes = ModelNodes()
    for presence in said:
        nodes.put(presence)
    standing, again_ms = asked(nodes.capacity, Counts(waiting, running), left_ms, NOW_MS)
    if standing is None:
        assert again_ms >= 1
    else:
        assert standing.position >= 0
        assert standing.eta_ms is None or standing.eta_ms >= 0


@given(st.lists(wild_nodes | st.sampled_from(["node-a", "node-b", "node-c"]), max_size=12))
def test_the_sums_are_those_of_the_nodes_that_are_there(news: list[Presence | str]) -> None:
    nodes, there = ModelNodes(), dict[str, Presence]()
    for each in news:
        if isinstance(each, str):
            nodes.drop(each)
            there.pop(each, None)
        else:
            nodes.put(each)
            there[each.node] = each
        assert nodes.capacity  # as a request does between two heartbeats
    fresh = ModelNodes()
    for presence in there.values():
        fresh.put(presence)
    assert nodes.capacity == fresh.capacity
    assert (nodes.continues, nodes.endpoints, len(nodes)) == (fresh.continues, fresh.endpoints, len(fresh))
    for endpoint in ("chat/completions", "embeddings"):
        assert nodes.in_order(endpoint) == fresh.in_order(endpoint)
        assert nodes.serves(endpoint) == any(endpoint in each.endpoints for each in there.values())


@given(st.lists(st.integers(NOW_MS, NOW_MS + 10**7), min_size=GROUPS_MAX + 1, max_size=100, unique=True))
def test_nodes_that_come_back_at_many_times_are_counted_in_a_few_groups(times: list[int]) -> None:
    nodes = ModelNodes()
    for number, until_ms in enumerate(times):
        nodes.put(_limited(f"node-{number}", until_ms))
    found = nodes.capacity.groups
    assert len(found) <= GROUPS_MAX
    assert sum(group.slots for group in found) == len(times)
    for until_ms in times:
        # A node never counts before its time.
        by_then = sum(each <= until_ms for each in times)
        assert nodes.capacity.slots(until_ms) <= by_then


def _limited(node: str, until_ms: int) -> Presence:
    return Presence(
        node=node,
        name="n",
        model="m",
        type="remote",
        version="1",
        state="rate_limited",
        slots=1,
        sent_ms=1,
        started_ms=1,
        service_ms=1000,
        until_ms=until_ms,
    )
