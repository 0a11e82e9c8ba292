"""Which ends a gateway tells the ledger itself, because no node has."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.metrics import GatewayMetrics
from gateway.models.register import Models
from gateway.requests import conversations, ends
from gateway.requests.conversations import ASKS, Conversations
from gateway.requests.record import GatewayRecorder
from process.identity import now_ms
from process.lifecycle import Tasks
from process.logging import Log
from process.timers import Timers
from tests.waiting import until
from wire.control import AreYouAlive, Go, Park, Stop
from wire.errors import EngineDied, ErrorBody, Overloaded, QueueUnavailable, ShuttingDown
from wire.piece import Alive, AttemptFrame, Failed, Finished, Settled, Started
from wire.request import Request
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST, ATTEMPT, NODE = "req_1", "att_1", "node-1"
CHARGE = b'{"the":"charge"}'
STARTED = Started(attempt_id=ATTEMPT, request_id=REQUEST, begun=True)
FINISHED = Finished(attempt_id=ATTEMPT, number=1, usage=Usage(), charge=CHARGE)
FAILED = Failed(attempt_id=ATTEMPT, number=1, error=ErrorBody(code="server_error", message="It broke."))
SETTLED = Settled(attempt_id=ATTEMPT, request_id=REQUEST)


class Told(GatewayRecorder):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("gateway-1", Tasks(Log("test")))
        self.told: list[Any] = []

    def request_event(self, kind: Any, *_: Any, **__: Any) -> None:
        self.told.append(kind)

    def repeat(self, charge: bytes, request_id: str) -> None:
        self.told.append(charge)


class Desk:
    """One request at a gateway, which owns no more."""

    def __init__(self, recorder: GatewayRecorder | None = None) -> None:
        self.recorder = Told()
        self.conversations = Conversations(
            recorder or self.recorder,
            GatewayMetrics(),
            Models((), 0.0, 0),
            Timers(asyncio.get_running_loop()),
            conversations_max=1,
            stream_buffer_bytes_max=1,
            answer_bytes_max=1,
        )
        self.opens()

    def opens(self) -> None:
        at = now_ms()
        self.conversations.open(
            Request(
                request_id=REQUEST,
                model="model",
                endpoint="chat/completions",
                body=b"{}",
                gateway="gateway-1",
                received_ms=at,
                deadline_ms=at + 60_000,
            )
        )

    def hears(self, *frames: AttemptFrame) -> list[Any]:
        for frame in frames:
            self.conversations.frame(NODE, frame, repeated=False)
        return self.recorder.told


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    desk.conversations.never_published(REQUEST)  # ends its timers
    await asyncio.sleep(0)


async def test_what_its_node_tells_is_not_told_again(desk: Desk) -> None:
    assert desk.hears(STARTED, FINISHED, SETTLED) == []
    assert len(desk.conversations) == 0


async def test_a_failure_that_was_accepted_is_its_nodes_event(desk: Desk) -> None:
    assert desk.hears(STARTED, FAILED, SETTLED) == []


async def test_a_charge_is_told_for_a_node_that_took_this_gateway_for_dead(desk: Desk) -> None:
    assert desk.hears(STARTED, FINISHED, Settled(attempt_id=ATTEMPT, request_id=REQUEST, abandoned=True)) == [CHARGE]


async def test_an_unsettled_answer_is_charged_by_a_gateway_that_leaves(desk: Desk) -> None:
    desk.hears(STARTED, FINISHED)
    desk.conversations.close_books()
    desk.conversations.close_books()
    assert desk.recorder.told == [CHARGE]


async def test_an_answer_that_nobody_settles_is_charged_by_its_gateway(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node may take a gateway for dead that only could not be heard."""
    monkeypatch.setattr(ends, "CHARGE_AFTER_S", 0.0)
    desk.hears(STARTED, FINISHED)
    assert desk.conversations.unsettled_count == 1
    await until(lambda: desk.recorder.told == [CHARGE])
    assert desk.conversations.unsettled_count == 0
    assert desk.hears(SETTLED) == [CHARGE]


async def test_each_answer_that_nobody_settles_is_charged_and_not_the_first_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "CHARGE_AFTER_S", 0.0)
    for charged in (1, 2):
        desk.hears(STARTED, FINISHED)
        await until(lambda charged=charged: desk.recorder.told == [CHARGE] * charged)  # type: ignore[misc]
        desk.hears(SETTLED)
        desk.opens()


async def test_an_answer_that_came_a_little_later_than_another_is_charged_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "CHARGE_AFTER_S", 0.1)
    recorder, now = Told(), asyncio.get_running_loop().time
    books, began = ends.Ends(recorder), now()
    for number, after_s in ((1, 0.0), (2, 0.05)):
        await until(lambda after_s=after_s: now() >= began + after_s)  # type: ignore[misc]
        owned: Any = SimpleNamespace(
            request=SimpleNamespace(request_id=number),
            conversation=SimpleNamespace(state="answered"),
            charge=None,
            end_told=False,
        )
        books.accept(owned, CHARGE)
    await until(lambda: recorder.told == [CHARGE, CHARGE])
    assert books.unsettled_count == 0


async def test_of_a_settled_answer_nothing_is_left_to_charge(desk: Desk) -> None:
    desk.hears(STARTED, FINISHED, SETTLED)
    assert desk.conversations.unsettled_count == 0


async def test_a_request_that_is_perhaps_published_has_failed_once_its_client_heard_so(desk: Desk) -> None:
    assert desk.conversations.give_up(REQUEST, QueueUnavailable())
    desk.conversations.hang_up(REQUEST)
    assert desk.hears(STARTED) == ["request.failed"]


@pytest.mark.parametrize("frames", [(STARTED,), (STARTED, FINISHED), (STARTED, FINISHED, SETTLED)])
async def test_a_request_without_a_receipt_that_a_node_has_goes_on(
    desk: Desk, frames: tuple[AttemptFrame, ...]
) -> None:
    """Else its client would hear that nothing came of it, and be charged all the same."""
    desk.hears(*frames)
    assert not desk.conversations.give_up(REQUEST, QueueUnavailable())
    assert desk.hears(FINISHED, SETTLED) == []


async def test_what_a_gateway_breaks_off_has_failed(desk: Desk) -> None:
    desk.hears(STARTED)
    desk.conversations.break_all(ShuttingDown())
    assert desk.recorder.told == ["request.failed"]


async def test_what_was_told_is_not_told_again_when_a_node_settles_that_had_no_word_in_it(desk: Desk) -> None:
    desk.hears(STARTED)
    desk.conversations.break_all(ShuttingDown())
    assert desk.hears(SETTLED) == ["request.failed"]
    assert len(desk.conversations) == 0


async def test_of_a_request_that_is_open_no_end_is_told(desk: Desk) -> None:
    desk.hears(STARTED)
    desk.conversations.close_books()
    assert desk.hears(FINISHED, SETTLED) == []


async def test_a_request_that_was_dropped_by_its_node_has_failed(desk: Desk) -> None:
    assert desk.hears(STARTED, Settled(attempt_id=ATTEMPT, request_id=REQUEST, abandoned=True)) == ["request.failed"]


async def test_a_cancelled_request_is_told_at_once_only_while_nobody_works_on_it(desk: Desk) -> None:
    desk.conversations.hang_up(REQUEST)
    assert desk.recorder.told == ["request.cancelled"]


async def test_a_cancelled_answer_is_told_by_its_charge(desk: Desk) -> None:
    desk.hears(STARTED)
    desk.conversations.hang_up(REQUEST)
    cancelled = Finished(attempt_id=ATTEMPT, number=1, usage=Usage(), charge=CHARGE, cancelled=True)
    assert desk.hears(cancelled, SETTLED) == []


async def test_what_was_never_published_has_no_end(desk: Desk) -> None:
    desk.conversations.never_published(REQUEST)
    assert desk.recorder.told == []


class Deaf:
    """Lines that hear nothing, not even their own echo, until they are told to."""

    def __init__(self) -> None:
        self.echo_heard_at = float("-inf")
        self.talkative = False
        """Whether nodes are heard on them although they send no heartbeats."""
        self.hears = False
        self.deaf_from: Any = None
        """They hear nothing any more once this was said."""
        self.asked = 0
        self.said: list[Any] = []

    def say(self, _: str, word: Any) -> None:
        self.said.append(word)
        if word == self.deaf_from:
            self.hears = False

    def heard_at(self, _: str) -> float:
        return asyncio.get_running_loop().time() if self.talkative else float("-inf")

    def echo(self) -> None:
        self.asked += 1
        if self.hears:
            self.echo_heard_at = asyncio.get_running_loop().time()


async def test_a_node_is_not_taken_for_dead_while_nothing_at_all_is_heard(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it charges for an answer whose client has gone comes once the broker is back."""
    monkeypatch.setattr(conversations, "INSIST_S", 0.001)
    lines: Any = Deaf()
    desk.conversations.lines = lines
    desk.hears(STARTED)
    desk.conversations.hang_up(REQUEST)
    await until(lambda: len(lines.said) > 2 * conversations.INSIST_MAX)
    assert (len(desk.conversations), desk.recorder.told) == (1, [])
    lines.hears = True
    await until(lambda: desk.recorder.told == ["request.cancelled"])
    assert len(desk.conversations) == 0


async def test_a_holder_is_asked_until_something_is_heard_and_only_then_replaced(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions may be lost, above all where nothing is heard; and to whoever hears nothing everybody is silent."""
    monkeypatch.setattr(conversations, "PROBE_S", 0.001)
    lines: Any = Deaf()
    desk.conversations.lines = lines
    desk.hears(STARTED, Started(attempt_id="att_2", request_id=REQUEST))
    await until(lambda: lines.asked > 5)
    assert lines.said == [AreYouAlive(attempt_id=ATTEMPT)] * len(lines.said)
    assert len(lines.said) // ASKS in (lines.asked - 1, lines.asked)
    lines.hears = True
    await until(lambda: not isinstance(lines.said[-1], AreYouAlive))
    assert Stop(attempt_id=ATTEMPT, reason="superseded") in lines.said


async def test_a_holder_that_has_answered_is_asked_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "PROBE_S", 0.001)
    lines: Any = Deaf()
    desk.conversations.lines = lines
    desk.hears(STARTED, Started(attempt_id="att_2", request_id=REQUEST))
    desk.hears(Alive(attempt_id=ATTEMPT, holding=True))
    await until(lambda: lines.asked > 5)
    assert lines.said == [AreYouAlive(attempt_id=ATTEMPT), Park(attempt_id="att_2")]


def fourth_attempt(desk: Desk) -> None:
    """It asks to begin after two engines died of the request, and beside a third attempt that says nothing."""
    died = EngineDied().body()
    for number in (1, 2):
        desk.hears(Started(attempt_id=f"att_{number}", request_id=REQUEST, begun=True))
        desk.hears(Failed(attempt_id=f"att_{number}", number=1, error=died, again=True))
    desk.hears(Started(attempt_id="att_3", request_id=REQUEST, begun=True))
    desk.hears(Started(attempt_id="att_4", request_id=REQUEST))


async def test_a_request_is_not_poison_while_nothing_at_all_is_heard(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeats that would show that its nodes live come once the broker is back."""
    monkeypatch.setattr(conversations, "PROBE_S", 0.001)
    monkeypatch.setattr(conversations, "VERIFY_S", 0.001)
    lines: Any = Deaf()
    desk.conversations.lines = lines
    fourth_attempt(desk)
    lines.deaf_from, lines.hears = Park(attempt_id="att_4"), True
    await until(lambda: not lines.hears and lines.asked > 10)
    assert desk.recorder.told == []
    lines.hears = True
    await until(lambda: desk.recorder.told == ["request.dead"])


@pytest.mark.parametrize("talkative", [True, False])
async def test_a_node_that_is_heard_at_all_has_not_died(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, talkative: bool
) -> None:
    """Its heartbeats may have been lost."""
    monkeypatch.setattr(conversations, "PROBE_S", 0.001)
    monkeypatch.setattr(conversations, "VERIFY_S", 0.001)
    lines: Any = Deaf()
    lines.hears, lines.talkative = True, talkative
    desk.conversations.lines = lines
    fourth_attempt(desk)
    last = Go if talkative else Stop
    await until(lambda: isinstance(lines.said[-1], last) and lines.said[-1].attempt_id == "att_4")
    assert desk.recorder.told == ([] if talkative else ["request.dead"])


async def test_of_a_request_whose_client_left_before_any_node_had_it_nothing_is_kept(desk: Desk) -> None:
    lines: Any = Deaf()
    desk.conversations.lines = lines
    desk.conversations.hang_up(REQUEST)
    assert (len(desk.conversations), desk.recorder.told) == (0, ["request.cancelled"])
    desk.hears(STARTED)
    assert [type(word) for word in lines.said] == [Stop]


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
async def test_a_clock_that_is_set_leaves_a_request_its_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, jump_ms: int
) -> None:
    """Else all that wait would be refused as too late by the next node that takes them."""
    lines: Any = Deaf()
    desk.conversations.lines = lines
    monkeypatch.setattr(conversations, "now_ms", lambda: now_ms() + jump_ms)
    desk.hears(Started(attempt_id=ATTEMPT, request_id=REQUEST))
    (go,) = lines.said
    assert 50_000 < go.remaining_ms <= 60_000


async def test_nothing_is_accepted_whose_end_could_not_be_kept() -> None:
    """While the topic of results takes nothing, ends wait in the gateway, and none may be lost."""
    tasks = Tasks(Log("test"))
    recorder = GatewayRecorder("gateway-1", tasks)
    desk = Desk(recorder)
    with pytest.raises(Overloaded):
        desk.opens()
    desk.conversations.hang_up(REQUEST)
    assert len(desk.conversations) == 0
    assert recorder.ends_waiting == 1
    with pytest.raises(Overloaded):
        desk.opens()
    await tasks.aclose()
    await until(lambda: recorder.ends_waiting == 0)
    desk.opens()
    desk.conversations.never_published(REQUEST)
