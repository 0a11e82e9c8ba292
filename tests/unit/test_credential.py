"""What the nodes of one key know together: who they are, when to rest, who tries, and who tells."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wire.presence import PRESENCE_EVERY_S, PRESENCE_LOST_S, CredentialPresence
from workernode.remote.credential import (
    GRACE_S,
    PEERS_MAX,
    QUIET_S,
    STEADY_S,
    TELL_AFTER_S,
    TOLD_S_MAX,
    WAIT_S_MAX,
    WAIT_S_MIN,
    Credential,
    credential_of,
)

NAME, NODE = "0123456789abcdef", "node-5"
EPOCH_MS = 1_760_000_000_000


def said(node: str, at: float, *, limited_for: float | None = None, **others: Any) -> CredentialPresence:
    at_ms = EPOCH_MS + round(at * 1000)
    fields = {"state": "ready", "credential": NAME, **others}
    until_ms = None if limited_for is None else at_ms + round(limited_for * 1000)
    return CredentialPresence(node=node, sent_ms=at_ms, limited_until_ms=until_ms, **fields)


def met(*nodes: str, now: float = 100.0) -> Credential:
    """A credential whose node has met others long ago."""
    credential = Credential(NAME, NODE, 0.0)
    for node in nodes:
        credential.heard(said(node, now), now)
    return credential


def test_the_name_tells_provider_and_key_apart_and_shows_neither() -> None:
    names = {credential_of(host, key) for host in ("a.example", "b.example") for key in ("sk-1", "sk-2", None)}
    assert len(names) == 6
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)
    assert credential_of("a.example", "sk-1") == credential_of("a.example", "sk-1")
    assert credential_of("a.example", "") == credential_of("a.example", None)


def test_nodes_count_while_they_take_work() -> None:
    credential = met("node-1", "node-9")
    assert (credential.nodes, credential.rank) == (3, 1)
    credential.heard(said("node-1", 101, state="draining"), 101)
    assert (credential.nodes, credential.rank) == (2, 0)
    credential.heard(said("node-9", 101, state="authentication_failed"), 101)
    assert credential.nodes == 1
    credential.heard(said("node-9", 102, state="rate_limited"), 102)
    assert credential.nodes == 2
    credential.heard(said("node-9", 103, credential="fedcba9876543210"), 103)
    assert credential.nodes == 1


def test_an_older_heartbeat_says_nothing() -> None:
    credential = met("node-1")
    assert not credential.heard(said("node-1", 99, state="stopped", limited_for=60), 101)
    assert (credential.nodes, credential.limited(101)) == (2, False)


def test_a_silent_node_is_gone_and_an_outage_is_no_silence() -> None:
    credential = met("node-1", "node-2")
    now = 100.0
    while now < 100 + PRESENCE_LOST_S + 2 * PRESENCE_EVERY_S:
        now += PRESENCE_EVERY_S
        credential.heard(said("node-1", now), now)
        credential.heard(said(NODE, now), now)
    assert credential.nodes == 2
    # Nobody is heard for long, this node itself neither; then its own heartbeat comes first.
    now += 600
    for _ in range(2):
        credential.heard(said(NODE, now), now)
        now += PRESENCE_EVERY_S
    assert credential.nodes == 2


def test_no_more_nodes_are_remembered_than_there_is_room_for() -> None:
    credential = met(*(f"node-{number}" for number in range(PEERS_MAX + 10)))
    assert credential.nodes == PEERS_MAX + 1


def test_all_rest_until_the_stated_time_and_the_lowest_tries() -> None:
    lowest, other = Credential(NAME, "node-1", 0.0), Credential(NAME, "node-2", 0.0)
    lowest.heard(said("node-2", 100), 100)
    other.heard(said("node-1", 100), 100)
    assert other.refused(30.0, 100.0, 100.1)
    assert lowest.heard(said("node-2", 100.1, limited_for=30), 100.1)
    for credential in (lowest, other):
        assert credential.limited(115)
        credential.heard(said("node-2" if credential is lowest else "node-1", 120, limited_for=10.1), 120)
        assert round(credential.wait_s(120, 2.0), 3) >= 10.1
        assert not credential.probes(120)
    assert (lowest.wait_s(130.2, 2.0), lowest.probes(130.2)) == (0.0, True)
    assert not lowest.probes(130.3)
    assert round(lowest.wait_s(130.3, 2.0), 1) == GRACE_S + 2.0 - 0.2  # it has had its turn of this round
    assert not other.probes(130.2)
    # Unless the try is heard to fail, the others follow, one after the other.
    assert round(other.wait_s(130.2, 2.0), 1) == GRACE_S + 2.0 / 2 - 0.1
    assert other.wait_s(130.2 + GRACE_S + 1.0, 2.0) == 0


def test_a_try_that_fails_is_no_news_of_the_pace_and_waits_longer_each_time() -> None:
    credential = Credential(NAME, NODE, 0.0)
    assert credential.refused(None, 100.0, 100.0)
    waits = []
    for _ in range(2000):  # more than a day
        now = credential.until
        assert credential.probes(now)
        assert not credential.refused(None, now, now)
        waits.append(credential.until - now)
    assert waits == sorted(waits)
    assert waits[-1] == WAIT_S_MAX


def test_a_call_that_was_under_way_begins_nothing_new() -> None:
    credential = Credential(NAME, NODE, 0.0)
    assert credential.refused(10.0, 100.0, 100.0)
    assert not credential.refused(11.0, 99.9, 100.5)
    assert credential.until == 111.5
    assert not credential.refused(10.0, 99.8, 112.0)
    assert credential.until == 111.5


def ticks(credential: Credential, start: float, end: float) -> list[str]:
    times = (start + 0.5 * step for step in range(int((end - start) * 2)))
    return [news for time in times if (news := credential.tick(time)) is not None]


def test_an_episode_is_told_once_at_its_beginning_and_once_at_its_end() -> None:
    credential = Credential(NAME, NODE, 0.0)
    credential.refused(10.0, 100.0, 100.0)
    credential.refused(10.0, 99.9, 100.1)
    assert ticks(credential, 100, 110) == ["limited"]
    credential.refused(10.0, 110.5, 110.6)
    assert ticks(credential, 111, 121) == []
    credential.accepted(120.7)
    assert ticks(credential, 121, 122 + STEADY_S) == ["recovered"]
    credential.refused(10.0, 200.0, 200.0)
    assert ticks(credential, 200, 210 + QUIET_S + 1) == ["limited", "recovered"]


def test_who_hears_that_a_lower_node_knows_leaves_the_telling_to_it() -> None:
    credential = met("node-1", "node-9")
    credential.refused(10.0, 100.0, 100.0)
    credential.heard(said("node-1", 100.2, state="rate_limited"), 100.2)
    assert ticks(credential, 100, 200) == []


def test_a_lower_node_that_died_just_before_is_not_waited_for() -> None:
    credential = met("node-1", "node-9")
    credential.heard(said("node-9", 100, limited_for=10), 100)
    assert ticks(credential, 100, 100 + TELL_AFTER_S + 1) == ["limited"]


def test_who_comes_in_the_middle_of_an_episode_does_not_tell_of_it() -> None:
    credential = Credential(NAME, NODE, 100.0)
    credential.heard(said("node-9", 100.5, limited_for=10), 100.5)
    assert credential.limited(101)
    assert ticks(credential, 100, 200) == []


def test_what_others_say_is_believed_for_as_long_as_a_heartbeat_counts() -> None:
    credential = met("node-1")
    credential.heard(said("node-1", 100, limited_for=1e9), 100)
    assert credential.until <= 100 + PRESENCE_LOST_S
    credential.warned(1e9, 100)
    assert credential.until <= 100 + TOLD_S_MAX
    assert credential.refused_until == 0  # nor is it said again


numbers = st.integers(-(2**53), 2**53)
forged = st.builds(
    CredentialPresence,
    node=st.sampled_from([NODE, "node-1", "node-2", "node-3"]),
    state=st.sampled_from(["ready", "rate_limited", "stopped", "nonsense"]),
    sent_ms=numbers.map(abs),
    credential=st.sampled_from([NAME, None, "other"]),
    requests_per_min=st.none() | numbers,
    tokens_per_min=st.none() | numbers,
    limited_until_ms=st.none() | numbers.map(abs),
)


def test_a_provider_that_wants_no_wait_is_left_alone_for_a_moment_all_the_same() -> None:
    credential = met()
    credential.refused(0.0, 100.0, 100.0)
    assert credential.until == 100.0 + WAIT_S_MIN


def test_a_refusal_that_comes_after_the_wait_that_it_is_about_prolongs_nothing() -> None:
    credential = met()
    credential.refused(5.0, 100.0, 100.0)
    assert not credential.refused(30.0, 101.0, 106.0)
    assert credential.until == 105.0


def test_the_least_that_other_nodes_have_learnt_counts_until_they_say_otherwise() -> None:
    credential = met()
    credential.heard(said("node-1", 100, requests_per_min=60, tokens_per_min=9000), 100.0)
    credential.heard(said("node-3", 100, requests_per_min=40), 100.0)
    assert credential.told == {"requests": 40, "tokens": 9000}
    credential.heard(said("node-3", 101, requests_per_min=80), 101.0)
    assert credential.told == {"requests": 60, "tokens": 9000}
    credential.heard(said("node-1", 102, state="paused"), 102.0)
    assert credential.told == {"requests": 80, "tokens": None}


def test_after_a_try_that_failed_the_same_node_tries_again() -> None:
    credential = met()
    credential.refused(5.0, 100.0, 100.0)
    assert (credential.probes(105.0), credential.probes(105.0)) == (True, False)
    credential.refused(5.0, 105.0, 105.0)
    assert (credential.probes(109.0), credential.probes(110.0)) == (False, True)


def test_an_answer_from_before_a_refusal_ends_no_episode() -> None:
    credential = met()
    credential.refused(5.0, 100.0, 100.0)
    credential.accepted(105.0)
    credential.refused(5.0, 106.0, 106.0)
    assert credential.tick(111.0 + STEADY_S) == "limited"
    assert credential.tick(112.0 + STEADY_S) is None


def test_an_operators_word_is_believed_for_some_minutes_and_never_shortens_a_wait() -> None:
    credential = met()
    assert not credential.warned(-1.0, 100.0)
    assert credential.holds(100.0) is False
    assert credential.warned(1e6, 100.0)
    assert credential.until == 100.0 + TOLD_S_MAX
    assert not credential.warned(1.0, 100.0)
    assert credential.until == 100.0 + TOLD_S_MAX


@given(st.lists(forged, max_size=30))
def test_whatever_others_say_this_node_goes_on_in_the_end(heartbeats: list[CredentialPresence]) -> None:
    credential = Credential(NAME, NODE, 0.0)
    now = 0.0
    for heartbeat in heartbeats:
        now += 0.1
        credential.heard(heartbeat, now)
        assert 1 <= credential.nodes <= 4
        assert 0 <= credential.rank < credential.nodes
        assert credential.wait_s(now, 1.0) <= PRESENCE_LOST_S + GRACE_S + 1.0
    assert credential.wait_s(now + PRESENCE_LOST_S + GRACE_S + 1.0, 1.0) == 0
