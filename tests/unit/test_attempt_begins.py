"""When an attempt that had to wait lets its engine see the request: once the gateway has it that it begins."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from tests.scripted_engine import ScriptedEngine
from tests.waiting import until
from wire.control import Accepted, Go, Park, Stop
from wire.piece import Alive, Finished, Frame, Started
from wire.request import Request
from wire.usage import Usage
from workernode.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = Request(
    request_id="req_1",
    model="model",
    endpoint="chat/completions",
    body=b"{}",
    gateway="gateway-1",
    received_ms=0,
    deadline_ms=60_000,
)


class Delivery:
    payload = b""
    published_ms = 0


class Link:
    """A line whose gateway hears when the test says so."""

    lost = False
    suspect = False

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.hears: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.listeners: list[Callable[[], None]] = []

    def push(self, frame: Frame, *, urgent: bool = False) -> None:
        self.frames.append(frame)

    def on_gone(self, tell: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(tell)
        return lambda: self.listeners.remove(tell)

    async def heard(self) -> bool:
        return await self.hears

    async def room(self) -> None:
        return


class Books:
    """A recorder."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def charge(self, _: Attempt, usage: Usage, *__: Any, **___: Any) -> bytes:
        self.charged = usage
        return b"charge"

    def attempt_event(self, _: Attempt, bill: str, *__: Any) -> bytes:
        return bill.encode()

    async def publish(self, event: bytes) -> None:
        self.told.append(event.decode())


class Bench:
    def __init__(self, request: Request = REQUEST) -> None:
        self.link, self.engine, self.books = Link(), ScriptedEngine("text"), Books()
        self.room = True
        """Whether the node can keep deliveries without a slot."""
        self.alone = asyncio.Lock()
        parts: Any = (Delivery(), request, self.link, self.engine, self.books, None, self.alone)
        self.attempt = Attempt(*parts, model=REQUEST.model)
        self.run = asyncio.ensure_future(self.attempt.run(on_park=lambda _: self.room, on_done=lambda: None))

    async def says(self, *words: Any) -> None:
        """What the gateway says, and the time to obey it."""
        for word in words:
            self.attempt.hear(word)
        for _ in range(10):
            await asyncio.sleep(0)

    def go(self, *, alone: bool = False) -> Go:
        return Go(attempt_id=self.attempt.attempt_id, number=1, remaining_ms=60_000, alone=alone)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("alone", [False, True], ids=["parked", "alone"])
async def test_the_engine_waits_until_the_gateway_has_it_that_the_attempt_begins(bench: Bench, alone: bool) -> None:
    """Else a request that kills its node would do so unseen, whenever that one message is lost."""
    await bench.says(*([] if alone else [Park(attempt_id=bench.attempt.attempt_id)]), bench.go(alone=alone))
    last = bench.link.frames[-1]
    assert isinstance(last, Started)
    assert last.begun
    assert bench.engine.asked == 0
    bench.link.hears.set_result(True)
    await bench.says()
    assert bench.engine.asked == 1
    assert isinstance(bench.link.frames[-1], Finished)
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    assert await bench.run == "ack"
    assert bench.books.told == ["charge"]


async def test_who_asked_just_now_begins_at_once(bench: Bench) -> None:
    await bench.says(bench.go())
    assert bench.engine.asked == 1
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    await bench.run


async def test_of_an_attempt_that_has_ended_its_line_keeps_nothing(bench: Bench) -> None:
    await bench.says(bench.go())
    assert len(bench.link.listeners) == 1
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    await bench.run
    assert bench.link.listeners == []


async def test_a_last_try_waits_without_a_slot_while_another_one_has_the_node_alone(bench: Bench) -> None:
    await bench.alone.acquire()
    await bench.says(bench.go(alone=True))
    assert bench.attempt.parked
    bench.alone.release()
    bench.link.hears.set_result(True)
    await bench.says(bench.go(alone=True))
    assert bench.engine.asked == 1
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    assert await bench.run == "ack"
    assert not bench.alone.locked()


async def test_a_request_of_a_gateway_that_was_found_gone_lets_others_have_its_slot(bench: Bench) -> None:
    bench.link.suspect = True
    await until(lambda: bench.attempt.parked)
    bench.link.suspect = False  # it lives after all
    await bench.says(bench.go())
    bench.link.hears.set_result(True)
    await bench.says()
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    assert await bench.run == "ack"
    assert bench.engine.asked == 1


async def test_it_keeps_its_slot_where_no_more_can_wait_without_one(bench: Bench) -> None:
    bench.link.suspect, bench.room = True, False
    await until(lambda: len(bench.link.frames) >= 3)  # it goes on asking
    assert not bench.attempt.parked
    await bench.says(bench.go())
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    assert await bench.run == "ack"


async def test_who_is_told_to_wait_where_no_more_can_hands_the_request_back(bench: Bench) -> None:
    bench.room = False
    await bench.says(Park(attempt_id=bench.attempt.attempt_id))
    assert await bench.run == "nack"
    assert bench.link.frames[-1] == Alive(attempt_id=bench.attempt.attempt_id, holding=False)


async def test_the_engine_never_sees_a_request_whose_gateway_is_gone_by_then(bench: Bench) -> None:
    await bench.says(bench.go(alone=True))
    bench.link.hears.set_result(False)
    assert await bench.run == "ack"
    assert bench.engine.asked == 0
    assert bench.books.told == ["abandoned"]


@pytest.mark.parametrize("parked", [False, True], ids=["in one turn with go", "while it says that it begins"])
@pytest.mark.parametrize("reason", ["cancelled", "again"])
async def test_whoever_is_stopped_before_the_engine_saw_the_request_is_charged_nothing(
    bench: Bench, parked: bool, reason: Any
) -> None:
    attempt_id = bench.attempt.attempt_id
    stop = Stop(attempt_id=attempt_id, reason=reason)
    if parked:
        await bench.says(Park(attempt_id=attempt_id))
        await bench.says(bench.go())
        await bench.says(stop)
        bench.link.hears.set_result(True)
    else:
        bench.attempt.hear(bench.go())
        bench.attempt.hear(stop)
    assert await bench.run == ("ack" if reason == "cancelled" else "nack")
    assert (bench.engine.asked, bench.books.told) == (0, [])
    if reason == "again":
        # Else the gateway would take its silence for a death.
        assert bench.link.frames[-1] == Alive(attempt_id=attempt_id, holding=False)


async def test_an_image_is_not_charged_by_its_bytes_when_its_request_is_cancelled() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    content = [{"type": "text", "text": "What is this?"}, image]
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    bench = Bench(structs.replace(REQUEST, body=body))
    bench.engine.steps = ("text", asyncio.Event())
    await bench.says(bench.go())
    await bench.says(Stop(attempt_id=bench.attempt.attempt_id, reason="cancelled"))
    await bench.says(Accepted(attempt_id=bench.attempt.attempt_id))
    assert await bench.run == "ack"
    assert bench.books.charged == Usage(prompt_tokens=4, completion_tokens=1, estimated=True)
