"""The node registry."""

from __future__ import annotations

from typing import Any

import pytest

from management.fleet.nodes import NodeRegistry
from wire.presence import PRESENCE_LOST_S, Presence


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def presence(node: str, **fields: Any) -> Presence:
    told: dict[str, Any] = {"type": "static", "version": "1", "state": "ready", "slots": 4, "sent_ms": 1}
    return Presence(node=node, name=node, model="small", started_ms=1, **(told | fields))


def test_a_node_is_there_until_its_heartbeats_stay_away(clock: Clock) -> None:
    registry = NodeRegistry(nodes_max=10, clock=clock)
    registry.hear(presence("node-a"))
    clock.now += PRESENCE_LOST_S
    registry.hear(presence("node-b"))
    assert [(node.node, age) for node, age in registry.present()] == [("node-a", PRESENCE_LOST_S), ("node-b", 0.0)]
    clock.now += 0.1
    assert [node.node for node, _ in registry.present()] == ["node-b"]


def test_a_heartbeat_renews_and_replaces_the_one_before(clock: Clock) -> None:
    registry = NodeRegistry(nodes_max=10, clock=clock)
    registry.hear(presence("node-a"))
    registry.hear(presence("node-b"))
    clock.now += PRESENCE_LOST_S
    registry.hear(presence("node-a", busy=3))
    clock.now += 1
    assert [(node.node, node.busy) for node, _ in registry.present()] == [("node-a", 3)]


def test_a_node_that_says_it_stopped_is_gone_at_once(clock: Clock) -> None:
    registry = NodeRegistry(nodes_max=10, clock=clock)
    registry.hear(presence("node-a"))
    registry.hear(presence("node-a", state="stopped"))
    assert len(registry) == 0


def test_a_flood_of_names_takes_no_more_room_than_allowed(clock: Clock) -> None:
    registry = NodeRegistry(nodes_max=2, clock=clock)
    for number in range(50):
        registry.hear(presence(f"node-{number}"))
    registry.hear(presence("node-0", busy=1))
    assert {node.node: node.busy for node, _ in registry.present()} == {"node-0": 1, "node-1": 0}
    clock.now += PRESENCE_LOST_S + 1
    registry.hear(presence("node-9"))
    assert [node.node for node, _ in registry.present()] == ["node-9"]
