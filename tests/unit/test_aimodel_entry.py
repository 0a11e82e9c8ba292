"""A node's entry in its AIModel's status, and an API server that does not want it."""

from __future__ import annotations

import asyncio
import typing
from typing import Any

import pytest

import workernode.aimodel
from process.cluster import ClusterError, Retries
from tests.waiting import pauses, until
from wire.presence import NodeState, Presence
from workernode.aimodel import MANAGER_CHARS_MAX, STATES, AIModelEntry, entry, manager
from workernode.heartbeat import Heartbeat
from workernode.identity import NodeIdentity
from workernode.static.engine import StaticEngine


class Scripted:
    """An API server that answers each call with the next error, and takes what comes after the last."""

    def __init__(self, *errors: ClusterError) -> None:
        self.errors = list(errors)
        self.taken: list[list[dict[str, Any]]] = []
        self.asked = 0
        self.hangs = False

    async def ask(self, method: str, path: str, *, query: Any, body: Any, content_type: str) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(body["status"]["nodes"])

    async def aclose(self) -> None: ...


@pytest.fixture
def heartbeat() -> Heartbeat:
    identity = NodeIdentity("node-a-0123456789abcdef", "pod-1", "m", "static")
    return Heartbeat(identity, StaticEngine("."), 4, lambda: (1, 0))


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workernode.aimodel, "APPLY_PAUSE_S", 0.01)
    monkeypatch.setattr("process.cluster.RETRY_S_MIN", 0.01)


def entry_of(cluster: Scripted, heartbeat: Heartbeat) -> AIModelEntry:
    return AIModelEntry(typing.cast("Any", cluster), "models", "m", "pod-1", heartbeat)


def presence(**more: Any) -> Presence:
    base: dict[str, Any] = {"node": "node-a", "name": "a", "model": "m", "type": "static", "version": "1", "slots": 4}
    return Presence(**{**base, "state": "ready", "sent_ms": 1_700_000_000_000, "started_ms": 1, **more})


def test_every_state_of_presence_has_its_word() -> None:
    assert STATES.keys() == set(typing.get_args(NodeState))


def test_an_entry_says_what_presence_says() -> None:
    since_ms, until_ms = 1_699_999_999_999, 1_700_000_030_000
    limited = presence(state="rate_limited", busy=3, sentence="Too fast.", since_ms=since_ms, until_ms=until_ms)
    assert entry(limited, "pod-1") == {
        "name": "pod-1",
        "state": "RateLimited",
        "message": "Too fast.",
        "since": "2023-11-14T22:13:19Z",
        "until": "2023-11-14T22:13:50Z",
        "lastHeartbeat": "2023-11-14T22:13:20Z",
        "slots": 4,
        "busy": 3,
    }


def test_a_long_sentence_is_cut_to_what_the_resource_takes() -> None:
    assert len(entry(presence(sentence="x" * 5000), "pod-1")["message"]) == 1024


@pytest.mark.parametrize("name", ["a", "x" * 112, "x" * 113, "x" * 255])
def test_a_field_manager_is_short_enough_and_of_its_node_alone(name: str) -> None:
    assert len(manager(name)) <= MANAGER_CHARS_MAX
    assert manager(name) != manager(name + "y")


async def test_a_change_is_told_and_the_state_keeps_since_when(heartbeat: Heartbeat) -> None:
    cluster = Scripted()
    running = asyncio.create_task(entry_of(cluster, heartbeat).run())
    await until(lambda: len(cluster.taken) == 1)
    heartbeat.become("quota_exhausted", "No quota.")
    await until(lambda: len(cluster.taken) == 2)
    heartbeat.become("quota_exhausted", "Still no quota.")
    await until(lambda: len(cluster.taken) == 3)
    running.cancel()
    (first,), (second,), (third,) = cluster.taken
    assert [each["state"] for each in (first, second, third)] == ["Loading", "QuotaExhausted", "QuotaExhausted"]
    assert (second["message"], third["message"]) == ("No quota.", "Still no quota.")
    assert second["since"] == third["since"] >= first["since"]


async def test_an_entry_is_told_again_without_a_change(heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Scripted()
    monkeypatch.setattr(workernode.aimodel, "APPLY_EVERY_S", 0.02)
    running = asyncio.create_task(entry_of(cluster, heartbeat).run())
    await until(lambda: len(cluster.taken) >= 3)
    running.cancel()


async def test_changes_are_told_no_faster_than_the_pause_allows(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workernode.aimodel, "APPLY_PAUSE_S", 0.2)
    cluster = Scripted()
    running = asyncio.create_task(entry_of(cluster, heartbeat).run())
    await until(lambda: cluster.asked == 1)
    for _ in range(100):
        heartbeat.become("rate_limited", "Too fast.")
        heartbeat.become("ready")
        await asyncio.sleep(0)
    await until(lambda: cluster.asked == 2)
    assert cluster.taken[-1][0]["state"] == "Ready"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), 0.3)
    assert cluster.asked == 2
    running.cancel()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "cannot be reached"),
        (401, "does not know this node's service account"),
        (403, "may not apply the AIModel's status"),
        (404, "There is no such AIModel"),
        (409, "had no turn for this node's entry"),
        (422, "does not take this node's entry"),
        (429, "refuses this node's entry"),
        (500, "refuses this node's entry"),
    ],
)
async def test_each_reason_is_told_once_and_what_is_true_in_the_end_is_shown(
    heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture, status: int, words: str
) -> None:
    caplog.set_level("INFO")
    cluster = Scripted(*[ClusterError(status, "It said no.")] * 3)
    entry = entry_of(cluster, heartbeat)
    running = asyncio.create_task(entry.run())
    await until(lambda: cluster.asked >= 2)
    heartbeat.become("ready")
    await until(lambda: cluster.taken and cluster.taken[-1][0]["state"] == "Ready")
    running.cancel()
    told = [record.getMessage() for record in caplog.records]
    assert [words in line for line in told if 'action="aimodel_status_untold"' in line] == [True]
    assert sum('action="aimodel_status_told"' in line for line in told) == 1


async def test_an_entry_that_is_refused_is_tried_again_after_as_long_as_the_api_server_wants(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [7.0, 8.0, 9.0]
    cluster = Scripted(*[ClusterError(429, "Not now.", seconds) for seconds in wanted])
    paused = pauses(monkeypatch, at_most=3)
    with pytest.raises(asyncio.CancelledError):
        await entry_of(cluster, heartbeat).run()
    assert paused == wanted


async def test_an_api_server_that_does_not_answer_delays_no_end(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workernode.aimodel, "LEAVE_S", 0.05)
    cluster = Scripted()
    cluster.hangs = True
    entry = entry_of(cluster, heartbeat)
    await asyncio.wait_for(entry.aclose(), 2)
    heartbeat.become("draining")  # nobody is told any more


def test_pauses_grow_to_a_limit_and_heed_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    retries = Retries()
    pauses = [retries.failed() for _ in range(40)]
    assert all(pause <= 60 for pause in pauses)
    assert all(pause >= 30 for pause in pauses[20:])
    assert retries.failed(retry_after_s=90) == 90
    retries.worked()
    assert retries.failed() <= 1
