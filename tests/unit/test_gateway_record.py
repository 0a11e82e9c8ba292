"""How long a gateway keeps what it has to tell while the broker takes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker.interface import BrokerUnavailable, PayloadTooLarge
from gateway.requests import record
from gateway.requests.record import RETRIES_MAX, GatewayRecorder
from process.lifecycle import Tasks
from process.logging import Log
from tests.simulation.virtual_loop import VirtualLoop
from tests.waiting import until
from wire.errors import StreamInterrupted
from wire.event import AcceptedData
from wire.request import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHARGE = b'{"the":"charge"}'
REQUEST = Request(
    request_id="req_1",
    model="model",
    endpoint="chat/completions",
    body=b"{}",
    gateway="gateway-1",
    received_ms=1,
    deadline_ms=2,
)


class Results:
    """The results topic; away until it is said to be back."""

    def __init__(self) -> None:
        self.away = True
        self.takes_s = 0.0
        self.at_once = self.at_once_most = 0
        self.tries = 0
        self.stored: list[bytes] = []

    async def send(self, payload: bytes) -> None:
        self.tries += 1
        self.at_once += 1
        self.at_once_most = max(self.at_once, self.at_once_most)
        await asyncio.sleep(self.takes_s)
        self.at_once -= 1
        if len(payload) > 100_000:
            raise PayloadTooLarge
        if self.away:
            raise BrokerUnavailable
        self.stored.append(payload)

    def post(self, payload: bytes) -> None: ...

    async def aclose(self) -> None: ...


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(record, "RETRY_S", 0.0)
    return Results()


@pytest.fixture
async def recorder(results: Results) -> AsyncIterator[GatewayRecorder]:
    tasks = Tasks(Log("test"))
    recorder = GatewayRecorder("gateway-1", tasks)
    recorder.producer = results
    yield recorder
    await tasks.aclose()


async def test_charges_and_ends_outlast_any_outage(recorder: GatewayRecorder, results: Results) -> None:
    """The node that had the request may be gone by then, and what it would have charged with it."""
    recorder.repeat(CHARGE, "req_1")
    recorder.request_event("request.failed", REQUEST, 2, "failed", 1, StreamInterrupted().body())
    await until(lambda: results.tries > 6 * RETRIES_MAX)
    assert await recorder.flushed(0.0) == 2
    results.away = False
    assert await recorder.flushed(5.0) == 0
    assert CHARGE in results.stored
    assert len(results.stored) == 2


async def test_what_others_know_too_is_given_up_after_a_while(recorder: GatewayRecorder, results: Results) -> None:
    recorder.prompt(REQUEST)
    recorder.gateway_event("gateway.accepted", "a", AcceptedData(gateway="g", since_ms=1, until_ms=2, requests=[]))
    await recorder.flushed(5.0)
    assert results.tries == 2 * RETRIES_MAX


async def test_a_charge_that_no_broker_takes_is_given_up_at_once(recorder: GatewayRecorder, results: Results) -> None:
    recorder.repeat(CHARGE * 10_000, "req_1")
    await recorder.flushed(5.0)
    assert results.tries == 1


async def test_no_end_is_lost_however_many_wait(
    recorder: GatewayRecorder, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "EVENTS_WAITING_MAX", 2)
    for number in range(5):
        recorder.repeat(b"charge %d" % number, f"req_{number}")
        recorder.prompt(REQUEST)
    assert recorder.ends_waiting == 5
    results.away = False
    assert await recorder.flushed(5.0) == 0
    assert recorder.ends_waiting == 0
    assert sorted(results.stored)[:5] == [b"charge %d" % number for number in range(5)]
    assert len(results.stored) == 5 + 2


def test_a_gateway_that_leaves_stays_as_long_as_its_events_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly, and never so many at once that its last requests find no room beside them."""
    monkeypatch.setattr(record, "SENDS_MAX", 3)
    loop = VirtualLoop()

    async def leave() -> None:
        results, tasks = Results(), Tasks(Log("test"))
        results.away, results.takes_s = False, 1.0
        recorder = GatewayRecorder("gateway-1", tasks)
        recorder.producer = results
        for number in range(12):
            recorder.repeat(b"charge %d" % number, f"req_{number}")
        began = loop.time()
        assert await recorder.flushed(1.5) == 0
        assert loop.time() - began == 4.0
        assert results.at_once_most == 3
        results.away = True
        recorder.repeat(CHARGE, "req_1")
        assert await recorder.flushed(1.5) == 1
        await tasks.aclose()

    try:
        loop.run_until_complete(leave())
    finally:
        loop.close()
