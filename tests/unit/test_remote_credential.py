"""What the nodes of one credential know together: who tries after a refusal, when the others go on, and who tells."""

from __future__ import annotations

import pytest

from wire import codec
from wire.presence import PRESENCE_EVERY_S, PRESENCE_LOST_S, CredentialPresence, Presence
from workernode.remote.credential import GRACE_S, PEERS_MAX, STEADY_S, TELL_AFTER_S, TOLD_S_MAX, WAIT_S_MIN, Credential


def credential(node: str = "node-2") -> Credential:
    return Credential("aaaa", node, 0.0)


def heartbeat(node: str, sent_ms: int = 0, **others: object) -> CredentialPresence:
    fields = {
        "credential": "aaaa",
        "name": node,
        "model": "m",
        "type": "remote",
        "version": "1",
        "state": "ready",
        "slots": 8,
    }
    made = Presence(node=node, sent_ms=sent_ms, started_ms=0, **{**fields, **others})  # type: ignore[arg-type]
    return codec.decode_credential(codec.encode(made))


def test_after_a_refusal_the_first_node_tries_and_the_others_follow_one_by_one() -> None:
    first, second = credential("node-1"), credential("node-2")
    first.heard(heartbeat("node-2"), 0.0)
    second.heard(heartbeat("node-1"), 0.0)
    for each in (first, second):
        each.refused(10.0, 0.0, 0.0)
    assert first.wait_s(0.0, 4.0) == 10.0
    assert second.wait_s(0.0, 4.0) == 10.0 + GRACE_S + 2.0
    assert (first.probes(10.0), second.probes(10.0)) == (True, False)
    assert first.wait_s(10.0, 4.0) == GRACE_S + 4.0, "it has had its turn"


def test_a_call_that_was_under_way_is_no_try_that_failed() -> None:
    known = credential()
    known.refused(None, 0.0, 0.0)
    assert known.until == 1.0
    assert not known.refused(None, 0.5, 0.6)
    assert known.until == 1.0
    known.refused(3.0, 0.5, 0.6)
    assert known.until == 3.6, "what the provider says counts"
    known.refused(None, 4.0, 4.0)
    assert known.until == 6.0, "twice as long after the first try that failed"


def test_a_provider_that_wants_no_wait_is_left_alone_for_a_moment_all_the_same() -> None:
    known = credential()
    known.refused(0.0, 0.0, 0.0)
    assert known.until == WAIT_S_MIN


def test_a_refusal_that_comes_after_the_wait_that_it_is_about_prolongs_nothing() -> None:
    known = credential()
    known.refused(5.0, 0.0, 0.0)
    assert not known.refused(30.0, 1.0, 6.0)
    assert known.until == 5.0


def test_the_least_that_other_nodes_have_learnt_counts_until_they_say_otherwise() -> None:
    known = credential()
    known.heard(heartbeat("node-1", requests_per_min=60, tokens_per_min=9000), 0.0)
    known.heard(heartbeat("node-3", requests_per_min=40), 0.0)
    assert known.told == {"requests": 40, "tokens": 9000}
    known.heard(heartbeat("node-3", 1000, requests_per_min=80), 1.0)
    assert known.told == {"requests": 60, "tokens": 9000}
    known.heard(heartbeat("node-1", 2000, state="paused"), 2.0)
    assert known.told == {"requests": 80, "tokens": None}


@pytest.mark.parametrize("told_by_another", [False, True])
def test_an_episode_is_told_of_once_and_by_one_node(told_by_another: bool) -> None:
    known = credential()
    known.heard(heartbeat("node-1", state="rate_limited" if told_by_another else "ready"), 0.0)
    known.heard(heartbeat("node-3", state="rate_limited"), 0.0)
    known.refused(5.0, 0.0, 0.0)
    assert known.tick(0.0) is None
    told = [known.tick(TELL_AFTER_S)]
    known.refused(5.0, 6.0, 6.0)
    told += [known.tick(8.0), known.tick(9.0)]
    known.accepted(12.0)
    told += [known.tick(11.0 + STEADY_S - 0.1), known.tick(11.0 + STEADY_S), known.tick(20.0)]
    assert told == ([None] * 6 if told_by_another else ["limited", None, None, None, "recovered", None])


def test_after_a_try_that_failed_the_same_node_tries_again() -> None:
    known = credential()
    known.refused(5.0, 0.0, 0.0)
    assert (known.probes(5.0), known.probes(5.0)) == (True, False)
    known.refused(5.0, 5.0, 5.0)
    assert (known.probes(9.0), known.probes(10.0)) == (False, True)


def test_an_answer_from_before_a_refusal_ends_no_episode() -> None:
    known = credential()
    known.refused(5.0, 0.0, 0.0)
    known.accepted(5.0)
    known.refused(5.0, 6.0, 6.0)
    assert known.tick(11.0 + STEADY_S) == "limited"
    assert known.tick(12.0 + STEADY_S) is None


def test_a_node_that_leaves_has_no_turn_any_more() -> None:
    known = credential()
    known.heard(heartbeat("node-1", 1000), 1.0)
    known.heard(heartbeat("node-3", 1000), 1.0)
    assert (known.nodes, known.rank) == (3, 1)
    known.heard(heartbeat("node-1", 2000, state="paused"), 2.0)
    assert (known.nodes, known.rank) == (2, 0)
    known.heard(heartbeat("node-3", 3000, credential="bbbb"), 3.0)
    assert (known.nodes, known.rank) == (1, 0)


def test_a_heartbeat_that_comes_late_counts_for_nothing() -> None:
    known = credential()
    known.heard(heartbeat("node-1", 2000, requests_per_min=60), 2.0)
    assert not known.heard(heartbeat("node-1", 1000, requests_per_min=10, limited_until_ms=9000), 2.0)
    assert (known.told["requests"], known.until) == (60, 0.0)


def test_another_nodes_refusal_is_news_once_and_is_believed_as_long_as_a_heartbeat_counts() -> None:
    known = credential()
    assert not known.heard(heartbeat("node-1", 1000, limited_until_ms=1000), 10.0), "it is over"
    assert known.until == 0.0
    assert known.heard(heartbeat("node-1", 2000, limited_until_ms=3_600_000), 10.0)
    assert known.until == 10.0 + PRESENCE_LOST_S
    later = known.until + GRACE_S
    assert not known.heard(heartbeat("node-1", 3000, limited_until_ms=3_600_000), later), "the same again"
    assert known.until == later + PRESENCE_LOST_S


def test_a_node_that_comes_into_an_episode_does_not_tell_of_it() -> None:
    known = credential()
    known.heard(heartbeat("node-3", limited_until_ms=5000), PRESENCE_EVERY_S / 2)
    assert known.tick(PRESENCE_EVERY_S + TELL_AFTER_S) is None
    since = credential()
    since.heard(heartbeat("node-3", limited_until_ms=5000), PRESENCE_EVERY_S)
    assert since.tick(PRESENCE_EVERY_S + TELL_AFTER_S) == "limited"


def test_an_operators_word_is_believed_for_some_minutes_and_never_shortens_a_wait() -> None:
    known = credential()
    assert not known.warned(-1.0, 0.0)
    assert known.holds(0.0) is False
    assert known.warned(1e6, 0.0)
    assert known.until == TOLD_S_MAX
    assert not known.warned(1.0, 0.0)
    assert known.until == TOLD_S_MAX


def test_who_is_silent_is_gone_by_the_beats_that_this_node_hears_of_itself() -> None:
    known, beats, now = credential(), 0, 0.0
    known.heard(heartbeat("node-1"), now)
    known.heard(heartbeat("node-2"), now + 1000.0)  # an outage: nobody was heard
    assert known.nodes == 2
    now += 1000.0
    for _ in range(100):
        known.heard(heartbeat("node-2"), now)  # one that comes several times counts once
    assert known.nodes == 2
    while known.nodes == 2:
        now, beats = now + PRESENCE_EVERY_S, beats + 1
        known.heard(heartbeat("node-2"), now)
    assert beats * PRESENCE_EVERY_S == PRESENCE_LOST_S


def test_no_more_nodes_are_remembered_than_a_fleet_may_have() -> None:
    known = credential()
    for number in range(PEERS_MAX + 1):
        known.heard(heartbeat(f"peer-{number}"), 0.0)
    assert known.nodes == PEERS_MAX + 1
