"""Which models a gateway knows, for how long, and when it refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from gateway.models import register
from gateway.models.register import KNOWN_FOR_S, Models
from wire.errors import ModelNotFound, ModelUnavailable
from wire.presence import PRESENCE_LOST_S, Presence

if TYPE_CHECKING:
    from wire.presence import NodeState

NOW_MS = 1_000_000


def heartbeat(
    node: str = "node-a",
    state: NodeState = "ready",
    *,
    sent_ms: int = 1,
    sentence: str | None = None,
    until_ms: int | None = None,
    counts: bool = False,
) -> Presence:
    return Presence(
        node=node,
        name="host",
        model="m",
        type="remote",
        version="1",
        state=state,
        slots=4,
        sent_ms=sent_ms,
        started_ms=0,
        sentence=sentence,
        until_ms=until_ms,
        counts=counts,
    )


def test_nodes_that_count_are_asked_to_as_long_as_they_stay() -> None:
    models = Models(["declared"], 0.0, 0)
    models.heard(heartbeat("node-a"), 0.0, 0)
    models.heard(heartbeat("node-b", "rate_limited", counts=True), 0.0, 0)
    models.heard(heartbeat("node-c", "paused", counts=True), 0.0, 0)
    models.heard(heartbeat("node-d", "draining", counts=True), 0.0, 0)
    assert models.counting("m") == ["node-b", "node-c"]
    models.heard(heartbeat("node-b", "stopped", counts=True, sent_ms=2), 1.0, 0)
    assert models.counting("m") == ["node-c"]
    models.forget_the_silent(PRESENCE_LOST_S + 0.1)
    assert models.counting("m") == models.counting("declared") == models.counting("unknown") == []


def test_a_flood_of_forged_nodes_and_models_makes_no_more_of_them_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "NODES_MAX", 3)
    monkeypatch.setattr(register, "MODELS_MAX", 2)
    models = Models(["declared"], 0.0, 0)
    forged = [msgspec.structs.replace(heartbeat(f"node-{number}"), model=f"m{number}") for number in range(9)]
    assert [models.heard(each, 0.0, 0) for each in forged] == [True, True] + 7 * [False]
    assert (models.names, models.node_count) == (["declared", "m0", "m1"], 2)
    of_declared = [msgspec.structs.replace(each, model="declared") for each in forged[2:]]
    assert not any(models.heard(each, 0.0, 0) for each in of_declared)
    assert models.node_count == 3
    # Those that are known are heard again, and others as soon as there is room.
    models.heard(msgspec.structs.replace(forged[0], state="paused"), 1.0, 0)
    assert models.view("m0").state == "paused"
    models.heard(heartbeat("node-0", "stopped", sent_ms=2), 1.0, 0)
    models.heard(of_declared[-1], 1.0, 0)
    assert models.view("declared").nodes == 2


def test_a_model_is_known_from_its_first_heartbeat_and_news_only_once() -> None:
    models = Models([], 0.0, 0)
    with pytest.raises(ModelNotFound):
        models.admit("m", "chat/completions", NOW_MS)
    assert models.heard(heartbeat(), 0.0, 0)
    assert not models.heard(heartbeat("node-b"), 0.0, 0)
    models.admit("m", "chat/completions", NOW_MS)
    assert (models.view("m").nodes, models.view("m").slots) == (2, 8)


def test_a_model_stays_known_for_ten_minutes_after_its_last_node() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(), 0.0, 0)
    models.heard(heartbeat(state="stopped", sent_ms=2), 10.0, 0)
    assert models.forget_the_silent(10.0 + KNOWN_FOR_S) == []
    models.admit("m", "chat/completions", NOW_MS)
    assert models.view("m").state == "waiting"
    assert models.forget_the_silent(11.0 + KNOWN_FOR_S) == ["m"]
    with pytest.raises(ModelNotFound):
        models.admit("m", "chat/completions", NOW_MS)


def test_a_time_in_which_no_heartbeat_could_come_says_nothing_of_a_model() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(), 0.0, 0)
    assert models.forget_the_silent(2 * KNOWN_FOR_S, deaf_s=1.5 * KNOWN_FOR_S) == []
    assert models.node_count == 0
    models.admit("m", "chat/completions", NOW_MS)
    assert models.forget_the_silent(2.5 * KNOWN_FOR_S) == []
    assert models.forget_the_silent(2.5 * KNOWN_FOR_S + 1) == ["m"]


def test_a_declared_model_is_never_forgotten() -> None:
    models = Models(["m"], 0.0, 0)
    assert models.forget_the_silent(100 * KNOWN_FOR_S) == []
    models.admit("m", "chat/completions", NOW_MS)


def test_a_node_without_heartbeats_is_gone_after_three_of_them() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(), 1000.0, 0)
    models.forget_the_silent(1000.0 + PRESENCE_LOST_S)
    assert models.node_count == 1
    models.forget_the_silent(1000.1 + PRESENCE_LOST_S)
    assert models.node_count == 0


def test_a_node_that_tells_another_model_serves_that_one_alone() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(), 0.0, 0)
    models.heard(msgspec.structs.replace(heartbeat(sent_ms=2), model="other"), 1.0, 0)
    assert (models.view("m").nodes, models.view("other").nodes, models.node_count) == (0, 1, 1)


def test_a_model_that_its_nodes_made_known_is_taken_back_by_no_declaration() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(), 0.0, 7)
    models.declare({"other": 5}, 1.0)
    models.heard(heartbeat(state="draining", sent_ms=2), 2.0, 8)
    models.admit("m", "chat/completions", NOW_MS)
    assert (models.view("m").created_s, models.view("other").created_s) == (7, 5)
    models.declare({"m": 6}, 3.0)
    assert models.view("m").created_s == 6, "since when it is declared"


def test_an_older_heartbeat_that_comes_late_changes_nothing() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(state="draining", sent_ms=5), 0.0, 0)
    models.heard(heartbeat(state="ready", sent_ms=4), 0.0, 0)
    assert models.view("m").state == "draining"


def test_a_model_is_unavailable_only_while_all_its_nodes_need_someone_to_act() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat("node-a", "quota_exhausted", sentence="No quota. Add some."), 0.0, 0)
    with pytest.raises(ModelUnavailable, match="No quota"):
        models.admit("m", "chat/completions", NOW_MS)
    models.heard(heartbeat("node-b", "rate_limited"), 0.0, 0)
    models.admit("m", "chat/completions", NOW_MS)


def test_a_node_that_is_about_to_try_again_has_use_for_a_request() -> None:
    models = Models([], 0.0, 0)
    models.heard(heartbeat(state="authentication_failed", until_ms=NOW_MS + 2000), 0.0, 0)
    with pytest.raises(ModelUnavailable) as refused:
        models.admit("m", "chat/completions", NOW_MS)
    assert refused.value.retry_after_ms == 2000
    models.admit("m", "chat/completions", NOW_MS + 2000)
