"""What a model's nodes can do, in numbers that a reader can work out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.models.capacity import GROUPS_MAX, SERVICE_MS_MAX, Capacity, Group, ModelNodes
from wire.presence import Presence

NOW_MS = 1_700_000_000_000
IN_TURN = Capacity((Group(0, 2, 0.01), Group(NOW_MS + 1000, 3, 0.02, busy=5), Group(NOW_MS + 2000, 1, 0.03, busy=7)))
"""Two slots now and ten requests by the end of the first second, three slots more and thirty by that of the next."""


def near(rate: float) -> Any:
    """In the place of a rate."""
    return pytest.approx(rate)


def node(name: str, **fields: Any) -> Presence:
    said: dict[str, Any] = {"name": name, "model": "m", "type": "remote", "version": "1", "state": "ready"}
    return Presence(node=name, **(said | {"slots": 4, "sent_ms": 1, "started_ms": 1} | fields))


def nodes(*said: Presence) -> ModelNodes:
    found = ModelNodes()
    for each in said:
        found.put(each)
    return found


@pytest.mark.parametrize(
    ("requests", "begun_ms"),
    [
        (0, 0),
        (2, 0),
        (3, 100),
        (11, 900),
        (12, 1000),
        (13, 1000),
        (15, 1000),
        (18, 1100),
        (45, 2000),
        (46, 2000),
        (52, 2100),
    ],
)
def test_each_group_of_nodes_takes_requests_from_its_time_on(requests: int, begun_ms: float) -> None:
    assert IN_TURN.begun_ms(requests, NOW_MS) == pytest.approx(begun_ms)


def test_nobody_can_tell_when_more_requests_begin_than_unmeasured_nodes_have_slots() -> None:
    capacity = Capacity((Group(0, 2), Group(NOW_MS + 1000, 3)))
    assert [capacity.begun_ms(each, NOW_MS) for each in (2, 3, 5, 6)] == [0, 1000, 1000, None]


def test_nodes_that_should_be_back_already_take_requests_now() -> None:
    capacity = Capacity((Group(0, 2, 0.01), Group(NOW_MS - 500, 3, 0.01)))
    assert [capacity.begun_ms(each, NOW_MS) for each in (5, 7)] == [0, 100]


def test_a_place_counts_from_the_moment_of_its_group_and_work_elsewhere_until_then() -> None:
    capacity = Capacity(IN_TURN.groups, leaving=20)
    times_ms = (NOW_MS, NOW_MS + 999, NOW_MS + 1000, NOW_MS + 2000)
    assert [capacity.slots(each) for each in times_ms] == [2, 2, 5, 6]
    assert [capacity.elsewhere(each) for each in times_ms] == [32, 32, 27, 20]


@pytest.mark.parametrize(
    ("within_ms", "end_ms"),
    [(0, 0), (250, 300), (300, 300), (999, 1000), (1110, 1000 + 4 / 0.03), (2010, 2000 + 100 / 6)],
)
def test_requests_end_one_by_one_at_the_rate_of_the_nodes_that_are_there(within_ms: float, end_ms: float) -> None:
    assert IN_TURN.next_end_ms(within_ms, NOW_MS) == pytest.approx(end_ms)


def test_unmeasured_nodes_put_no_end_to_requests() -> None:
    assert Capacity((Group(0, 2),)).next_end_ms(70, NOW_MS) == 70


def test_nodes_of_one_time_are_one_group_and_a_new_one_is_like_those_that_were_measured() -> None:
    found = nodes(node("a", busy=3, service_ms=1000), node("b", slots=2, busy=1, service_ms=2000), node("c", slots=6))
    # Five requests a second on six slots: 1.2 s each. The new node adds as many.
    assert found.capacity.service_ms == pytest.approx(1200)
    assert found.capacity.groups == (Group(0, 12, near(0.01), 4),)
    found.drop("a")
    assert found.capacity.service_ms == pytest.approx(2000)
    assert found.capacity.groups == (Group(0, 8, near(0.004), 1),)
    found.drop("b")
    assert found.capacity == Capacity((Group(0, 6),))
    found.drop("c")
    assert found.capacity == Capacity()


def test_a_node_comes_back_with_the_end_of_its_second_and_holds_its_work_until_then() -> None:
    found = nodes(
        node("a", state="rate_limited", until_ms=NOW_MS + 1, busy=1),
        node("b", state="rate_limited", until_ms=NOW_MS + 1000, busy=1),
        node("c", state="rate_limited", until_ms=NOW_MS + 1001),
        node("d", state="rate_limited", busy=2),
        node("e", state="draining", until_ms=NOW_MS + 1, busy=3),
    )
    assert found.capacity == Capacity((Group(NOW_MS + 1000, 8, 0, 2), Group(NOW_MS + 2000, 4)), leaving=5)


def test_what_a_heartbeat_says_beyond_all_bounds_is_taken_for_the_bound() -> None:
    assert nodes(node("a", slots=-3, busy=2), node("b")).capacity.groups == (Group(0, 4),)
    assert nodes(node("a", busy=-3)).capacity.groups == (Group(0, 4),)
    assert nodes(node("a", busy=9)).capacity.groups == (Group(0, 4, busy=4),)
    for said in (0, -5):
        assert nodes(node("a", service_ms=said)).capacity.service_ms == 1
    assert nodes(node("a", service_ms=2**53)).capacity.service_ms == pytest.approx(SERVICE_MS_MAX) == 86_400_000


def test_those_that_come_back_at_many_times_are_joined_each_group_from_its_latest() -> None:
    seconds = range(1, GROUPS_MAX + 2)
    late = [node(f"n{s}", state="rate_limited", until_ms=NOW_MS + s * 1000, busy=1, service_ms=1000) for s in seconds]
    assert len(nodes(*late[:GROUPS_MAX]).capacity.groups) == GROUPS_MAX
    here, *later = nodes(node("a", service_ms=1000), *reversed(late)).capacity.groups
    assert here.from_ms == 0
    pairs = [Group(NOW_MS + s * 1000, 8, near(0.008), 2) for s in range(2, GROUPS_MAX + 1, 2)]
    assert later == [*pairs, Group(NOW_MS + (GROUPS_MAX + 1) * 1000, 4, near(0.004), 1)]


def test_what_is_served_is_what_some_node_serves_and_in_order_while_one_is() -> None:
    chat, both = ("chat/completions",), ("embeddings", "chat/completions")
    found = nodes(node("a", endpoints=chat, state="misconfigured"), node("b", endpoints=both, continues=True))
    assert found.endpoints == ["chat/completions", "embeddings"]
    assert found.continues
    assert [each.node for each in found.presences] == ["a", "b"]
    found.put(node("b", endpoints=chat, state="draining"))
    assert (found.endpoints, found.serves("embeddings"), found.continues) == (["chat/completions"], False, False)
    assert found.in_order("chat/completions")
    found.drop("b")
    assert found.serves("chat/completions")
    assert not found.in_order("chat/completions")
    assert len(found) == 1
