"""What a node is told, by what holds for it and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from management.fleet.overseer import order_of, word_for
from store.orders import Order
from wire.control import Drain, Pause, Resume
from wire.presence import NodeState, Presence

if TYPE_CHECKING:
    from store.orders import Scope, Verb
    from wire.control import Word

STATES: tuple[NodeState, ...] = get_args(NodeState)
Key = tuple[str, str]


def presence(state: NodeState) -> Presence:
    return Presence(
        node="node-a", name="a", model="m", type="static", version="1", state=state, slots=1, sent_ms=1, started_ms=1
    )


def orders(**verbs: Verb) -> dict[Key, Order]:
    subjects: dict[str, tuple[Scope, str]] = {"node": ("node", "node-a"), "model": ("model", "m")}
    return {
        subjects[name]: Order(scope=subjects[name][0], subject=subjects[name][1], order=verb, by="alice", at_ms=1)
        for name, verb in verbs.items()
    }


PAUSED = Pause(sentence="Paused by alice.")
MODEL_PAUSED = Pause(sentence="Its model is paused by alice.")


@pytest.mark.parametrize(
    ("given", "state", "word"),
    [
        ({}, "paused", None),  # somebody else's
        ({}, "ready", None),
        ({"node": "pause"}, "ready", PAUSED),
        ({"node": "pause"}, "starting", PAUSED),
        ({"node": "pause"}, "quota_exhausted", PAUSED),
        ({"node": "pause"}, "paused", None),
        ({"model": "pause"}, "ready", MODEL_PAUSED),
        ({"node": "resume", "model": "pause"}, "ready", MODEL_PAUSED),
        ({"node": "pause", "model": "resume"}, "ready", PAUSED),
        ({"node": "resume"}, "paused", Resume()),
        ({"model": "resume"}, "paused", Resume()),
        ({"node": "pause", "model": "resume"}, "paused", None),
        ({"model": "resume"}, "ready", None),
        ({"node": "drain"}, "paused", Drain()),
        ({"node": "drain", "model": "pause"}, "ready", Drain()),
    ],
)
def test_a_node_is_told_what_it_does_not_show_yet(given: dict[str, Verb], state: NodeState, word: Word | None) -> None:
    assert word_for(presence(state), orders(**given)) == word


@pytest.mark.parametrize("state", STATES)
def test_a_node_that_leaves_is_told_nothing(state: NodeState) -> None:
    told = word_for(presence(state), orders(node="drain"))
    assert (told is None) == (state in ("draining", "stopped"))


def test_an_order_of_another_node_or_model_is_none() -> None:
    given = {("node", "node-b"): orders(node="pause")["node", "node-a"]}
    assert word_for(presence("ready"), given) is None
    assert order_of("node-a", "m", given) is None
