"""The parts around a pace: the key's file, what heartbeats say, whose are read, and how often is tried again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from broker.memory import MemoryBroker, MemoryServer
from tests.waiting import until
from wire import codec
from wire.presence import Presence
from wire.topics import Topics
from workernode.remote.allowance import Allowance, Limits
from workernode.remote.key import Key
from workernode.remote.pace import CredentialPace, Learnt
from workernode.remote.peers import hear_peers
from workernode.remote.retry import BUDGET_MAX, RetryBudget
from workernode.remote.stated import stated

if TYPE_CHECKING:
    from pathlib import Path

NOW_MS = 1_760_000_000_000


def paced(name: str = "aaaa", limits: Limits | None = None) -> CredentialPace:
    return CredentialPace(lambda: name, "node-1", limits or Limits(), clock=lambda: 1000.0, unix_ms=lambda: NOW_MS)


def presence(node: str, credential: str | None, **others: object) -> Presence:
    fields = {"name": node, "model": "m", "type": "remote", "version": "1", "state": "ready", "slots": 8}
    return Presence(node=node, credential=credential, sent_ms=NOW_MS, started_ms=NOW_MS, **{**fields, **others})  # type: ignore[arg-type]


def test_a_key_is_read_anew_when_its_file_is_written_or_replaced(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one\n")
    key = Key(file, "one")
    assert key() == "one"
    file.write_text("second\n")
    assert key() == "second"
    (tmp_path / "new").write_text("third!\n")
    os.replace(tmp_path / "new", file)  # as Kubernetes does
    assert key() == "third!"
    file.unlink()
    assert key() == "third!"
    file.write_text("  \n")
    assert key() == "third!"


def test_a_replaced_key_is_another_credential_of_which_nothing_is_known() -> None:
    names = ["aaaa"]
    pace = CredentialPace(lambda: names[0], "node-1", Limits(), clock=lambda: 1000.0, unix_ms=lambda: NOW_MS)
    pace.refused(60.0, 999.0)
    assert pace.limited_s() == 60.0
    assert not pace.renew()
    names[0] = "bbbb"
    assert pace.renew()
    assert (pace.credential, pace.limited_s(), pace.learnt().limited_until_ms) == ("bbbb", 0.0, None)


def test_a_heartbeat_says_what_this_node_learnt_and_not_what_it_heard() -> None:
    pace = paced()
    heard = codec.decode_credential(
        codec.encode(presence("node-2", "aaaa", requests_per_min=60, limited_until_ms=NOW_MS + 9000))
    )
    pace.heard(heard)
    assert pace.limited_s() == 9.0
    assert pace.rate("requests").limit(1000.0) is not None
    assert pace.learnt().limited_until_ms is None
    pace.refused(5.0, 1000.0)
    assert pace.learnt().limited_until_ms == NOW_MS + 5000


@pytest.mark.parametrize("limit", [2**63 - 1, 2**64 - 1, 10**308])
@pytest.mark.parametrize("per", ["", "-second"])
def test_a_node_whose_provider_has_no_limit_tells_one_that_can_be_read(limit: int, per: str) -> None:
    """Whoever cannot read a heartbeat takes its node for gone."""
    for pace in (paced(), paced(limits=Limits(requests_per_min=limit))):
        pace.learn(stated({f"x-ratelimit-limit-requests{per}": str(limit)}, 0.0))
        learnt = pace.learnt()
        assert learnt.requests_per_min is not None
        codec.decode_credential(codec.encode(presence("node-1", "aaaa", requests_per_min=learnt.requests_per_min)))
        assert (learnt.slots(128, 1000.0), pace.wait_s()) == (128, 0.0)


@pytest.mark.parametrize(
    ("per_s", "at_once", "service_ms", "slots"),
    [(None, None, 2000, 128), (0.5, None, 2000, 1), (0.5, None, 20_000, 10), (100.0, None, 5000, 128),
     (0.5, None, None, 128), (None, 4, None, 4), (0.1, 4, 100, 1)],
)  # fmt: skip
def test_a_heartbeat_says_how_many_slots_have_work_at_the_pace(
    per_s: float | None, at_once: int | None, service_ms: float | None, slots: int
) -> None:
    assert Learnt("aaaa", None, None, None, per_s, at_once).slots(128, service_ms) == slots


@pytest.mark.parametrize("per_s", [0.05, 0.33, 2.0, 100.0])
@pytest.mark.parametrize("service_ms", [10.0, 500.0, 20_000.0])
def test_a_heartbeat_promises_no_more_than_the_pace(per_s: float, service_ms: float) -> None:
    """By slots and the time in one, gateways let in what a queue of the waiting time can take."""
    learnt = Learnt("aaaa", None, None, None, per_s)
    slots = learnt.slots(8, service_ms)
    said = learnt.service_ms(slots, service_ms)
    assert said is not None
    assert said >= service_ms
    assert slots * 1000 / said <= per_s * 1.001
    assert Learnt("aaaa", None, None, None).service_ms(8, service_ms) == service_ms


def test_a_limit_of_tokens_is_a_pace_too() -> None:
    allowance = Allowance(Limits(requests_per_min=600, tokens_per_min=20_000), 0.0)
    allowance.tokens_expected = 5_000.0
    assert allowance.per_s(0.0) == pytest.approx(4 / 60, rel=0.2)
    allowance.tokens_expected = 1.0
    assert allowance.per_s(0.0) == pytest.approx(10, rel=0.2)
    assert Allowance(Limits(), 0.0).per_s(0.0) is None


@pytest.mark.parametrize("used", [2**32 - 1, 2**53 - 1])
def test_no_call_counts_for_more_tokens_than_a_minute_has_whatever_its_provider_says(used: int) -> None:
    now = 1000.0
    limits = Limits(tokens_per_min=100_000)
    pace = CredentialPace(lambda: "aaaa", "node-1", limits, clock=lambda: now, unix_ms=lambda: NOW_MS)
    pace.permit()
    pace.begin()
    pace.settle(pace.reserve(100, 400), used)
    pace.end(called=True)
    assert 0 < pace.wait_s() <= 62
    now += 62
    assert pace.wait_s() == 0
    learnt = pace.learnt()
    service_ms = learnt.service_ms(128, 1000.0)
    assert service_ms is not None
    # One that nobody could read would make the node disappear.
    said = presence("node-1", "aaaa", service_ms=round(service_ms))
    assert codec.decode_presence(codec.encode(said)) == said
    assert service_ms < 3_600_000


def test_a_pace_that_is_next_to_nothing_is_told_so_that_it_can_be_read() -> None:
    service_ms = Learnt("aaaa", None, None, None, per_s=1e-18).service_ms(128, 1000.0)
    assert service_ms is not None
    said = presence("node-1", "aaaa", service_ms=round(service_ms))
    assert codec.decode_presence(codec.encode(said)) == said


def test_an_answer_without_a_known_limit_tells_nothing_of_the_next_ones_tokens() -> None:
    now = 1000.0
    pace = CredentialPace(lambda: "aaaa", "node-1", Limits(), clock=lambda: now, unix_ms=lambda: NOW_MS)
    pace.settle(pace.reserve(100, None), 2**53 - 1)
    now += 100
    pace.learn(stated({"x-ratelimit-limit-tokens": "100000"}, 0.0))
    assert (pace.wait_s(), pace.reserve(100, None)) == (0, 500)


def test_a_client_that_asks_for_endless_answers_stops_a_node_for_no_more_than_a_minute() -> None:
    now = 1000.0
    limits = Limits(tokens_per_min=100_000)
    pace = CredentialPace(lambda: "aaaa", "node-1", limits, clock=lambda: now, unix_ms=lambda: NOW_MS)
    pace.permit()
    pace.begin()
    reserved = pace.reserve(100, 2**31 - 1)
    assert reserved == 100_000
    assert 0 < pace.wait_s() <= 62
    pace.settle(reserved, 150)
    now += 1
    assert pace.wait_s() == 0


async def test_only_heartbeats_of_the_same_credential_are_read_and_the_roll_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker, topics, pace = MemoryBroker(MemoryServer()), Topics(), paced()
    rolls: list[bytes] = []
    roll_call = await broker.listen(topics.roll_call, rolls.append, waiting_max=10)
    listener = await hear_peers(broker, topics, "node-1", pace)
    producer = await broker.producer(topics.presence)
    decode = Mock(wraps=codec.decode_credential)
    monkeypatch.setattr(codec, "decode_credential", decode)
    for node, credential in (("node-2", "aaaa"), ("node-3", "bbbb"), ("node-4", None), ("node-5", "aaaa")):
        await producer.send(codec.encode(presence(node, credential)))
    await producer.send(b"\x01aaaa, but no heartbeat")
    await until(lambda: pace.nodes == 3)
    await until(lambda: len(rolls) == 1)
    assert decode.call_count == 3
    await listener.aclose()
    await roll_call.aclose()
    await broker.aclose()


def test_who_waits_hears_of_another_nodes_refusal_and_of_nodes_that_come() -> None:
    pace, changes = paced(limits=Limits(requests_per_min=600)), Mock()
    pace.changed = changes

    def hear(**said: object) -> int:
        changes.reset_mock()
        pace.heard(codec.decode_credential(codec.encode(presence("node-2", "aaaa", **said))))
        return int(changes.call_count)

    assert hear() == 1
    assert pace.rate("requests").nodes == 2
    assert hear() == 0
    assert hear(limited_until_ms=NOW_MS + 9000) == 1


def test_an_operators_word_counts_for_its_credential_alone() -> None:
    pace = paced()
    pace.warned("bbbb", NOW_MS + 30_000)
    assert pace.limited_s() == 0
    pace.warned("aaaa", NOW_MS + 30_000)
    assert pace.limited_s() == 30.0
    assert pace.wait_s() >= 30.0


def test_a_tenth_of_the_requests_may_be_tried_again() -> None:
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(100)) == BUDGET_MAX
    for _ in range(50):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) in (4, 5)
