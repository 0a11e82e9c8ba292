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
        self.tries = 0
        self.stored: list[bytes] = []

    async def send(self, payload: bytes) -> None:
        self.tries += 1
        await asyncio.sleep(0)
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
