"""What becomes of requests that cannot be published: who waits for the broker, and who is told so."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from broker.interface import (
    BrokerError,
    BrokerForbidden,
    BrokerUnavailable,
    Kind,
    PayloadTooLarge,
    SendRejected,
    SendUnknown,
)
from broker.memory import MemoryBroker, MemoryServer
from gateway.queue.broker_wait import BrokerWait
from gateway.queue.request_queue import NotPublished, RequestQueue
from tests.passing_broker import PassingBroker
from tests.waiting import until
from wire import codec
from wire.errors import BodyTooLarge, Overloaded, QueueUnavailable
from wire.request import Request
from wire.topics import WORKERS, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.interface import Consumer, Producer

TOPICS = Topics()
MODEL = "model"
WAIT_S = 30.0
SHORT_S = 0.2


class Broke(SendUnknown):
    """No receipt came, for the broker is gone."""


class FailingBroker(PassingBroker):
    """Sends fail in this order before the first one goes through."""

    def __init__(self, server: MemoryServer, *failures: BrokerError) -> None:
        super().__init__(MemoryBroker(server))
        self.failures = list(failures)
        self.unopened: list[BrokerError] = []
        """Why producers cannot be had, one after the other."""
        self.may_open = asyncio.Event()
        self.may_open.set()
        self._server = server

    async def producer(self, topic: str, *, gather_ms: int = 0) -> Producer:
        await self.may_open.wait()
        if self.unopened:
            raise self.unopened.pop(0)
        producer = await super().producer(topic, gather_ms=gather_ms)
        send = producer.send

        async def failing(payload: bytes) -> None:
            if not self.failures:
                return await send(payload)
            failure = self.failures.pop(0)
            if isinstance(failure, Broke):
                self._server.set_available(False)
            raise failure

        producer.send = failing  # type: ignore[method-assign]
        return producer


class Desk:
    """A queue over a memory broker, and a worker's end of its topic."""

    def __init__(self, *failures: BrokerError, wait_s: float = WAIT_S, requests_max: int = 9, bytes_max: int = 99):
        self.server = MemoryServer()
        self.broker = FailingBroker(self.server, *failures)
        self.wait = BrokerWait(self.broker, wait_s=wait_s, requests_max=requests_max, bytes_max=bytes_max)
        self.queue = RequestQueue(self.broker, TOPICS, self.wait)
        self.worker: Consumer

    def publishing(self, number: int, body: bytes = b"{}") -> asyncio.Task[None]:
        request = Request(
            request_id=f"req_{number}",
            model=MODEL,
            endpoint="chat/completions",
            body=body,
            gateway="gateway-1",
            received_ms=0,
            deadline_ms=60_000,
        )
        return asyncio.create_task(self.queue.publish(request))

    async def published(self, count: int) -> list[str]:
        deliveries = [await self.worker.receive() for _ in range(count)]
        return [codec.decode_request(delivery.payload).request_id for delivery in deliveries]


@contextlib.asynccontextmanager
async def opened(desk: Desk) -> AsyncIterator[Desk]:
    async with asyncio.timeout(10):
        desk.worker = await MemoryBroker(desk.server).consumer(TOPICS.requests(MODEL), WORKERS, Kind.SHARED)
        await desk.queue.prepare(MODEL)
        yield desk
        desk.wait.end()
        await desk.queue.aclose()


async def test_requests_wait_for_the_broker_and_are_published_in_order() -> None:
    async with opened(Desk()) as desk:
        desk.server.set_available(False)
        waiting = [desk.publishing(number) for number in range(3)]
        await until(lambda: desk.wait.count == 3)
        assert desk.wait.is_offered
        desk.server.set_available(True)
        await asyncio.gather(*waiting)
        assert await desk.published(3) == ["req_0", "req_1", "req_2"]
        assert desk.wait.count == 0
        assert not desk.wait.is_offered


async def test_nobody_waits_where_none_should() -> None:
    async with opened(Desk(wait_s=0.0)) as desk:
        desk.server.set_available(False)
        with pytest.raises(NotPublished):
            await desk.publishing(1)
        assert not desk.wait.is_offered


async def test_time_counts_from_when_the_broker_was_missed_and_anew_for_each_outage() -> None:
    async with opened(Desk(wait_s=SHORT_S)) as desk:
        for number in range(2):
            desk.server.set_available(False)
            began = asyncio.get_running_loop().time()
            with pytest.raises(NotPublished):
                await desk.publishing(number)
            late = asyncio.get_running_loop().time()
            assert late - began >= SHORT_S
            assert not desk.wait.is_offered
            with pytest.raises(NotPublished):
                await desk.publishing(number)
            assert asyncio.get_running_loop().time() - late < SHORT_S, "it came too late to wait"
            desk.server.set_available(True)
            await desk.publishing(number)
            await until(lambda: "away=False" in repr(desk.wait))
        assert await desk.published(2) == ["req_0", "req_1"]


@pytest.mark.parametrize("limits", [{"requests_max": 2}, {"bytes_max": 5}], ids=["requests", "bytes"])
async def test_only_so_many_wait(limits: dict[str, int]) -> None:
    async with opened(Desk(**limits)) as desk:
        desk.server.set_available(False)
        waiting = [desk.publishing(number) for number in range(2)]
        await until(lambda: desk.wait.count == 2)
        with pytest.raises(NotPublished):
            await desk.publishing(3)
        waiting.pop().cancel()
        await until(lambda: desk.wait.count == 1)
        waiting.append(desk.publishing(4))
        await until(lambda: desk.wait.count == 2)
        desk.server.set_available(True)
        await asyncio.gather(*waiting)
        assert await desk.published(2) == ["req_0", "req_4"]


async def test_a_gateway_that_leaves_lets_nobody_wait() -> None:
    async with opened(Desk()) as desk:
        desk.server.set_available(False)
        waiting = desk.publishing(1)
        await until(lambda: desk.wait.count == 1)
        desk.wait.end()
        with pytest.raises(NotPublished):
            await waiting
        with pytest.raises(NotPublished):
            await desk.publishing(2)
        assert not desk.wait.is_offered


async def test_a_topic_that_cannot_be_used_yet_is_waited_for() -> None:
    async with opened(Desk(BrokerUnavailable("Not yet."), BrokerUnavailable("Not yet."))) as desk:
        await desk.publishing(1)
        assert await desk.published(1) == ["req_1"]
        assert not desk.broker.failures


async def test_what_perhaps_is_in_the_topic_is_published_once_more_after_an_outage() -> None:
    async with opened(Desk(Broke())) as desk:
        waiting = desk.publishing(1)
        await until(lambda: desk.wait.count == 1)
        desk.server.set_available(True)
        await waiting
        assert await desk.published(1) == ["req_1"]


async def test_what_perhaps_is_in_the_topic_is_never_called_unpublished() -> None:
    async with opened(Desk(Broke())) as desk:
        waiting = desk.publishing(1)
        await until(lambda: desk.wait.count == 1)
        desk.wait.end()
        with pytest.raises(QueueUnavailable) as found:
            await waiting
        assert not isinstance(found.value, NotPublished)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (SendUnknown("No receipt."), QueueUnavailable),
        (BrokerForbidden("No."), NotPublished),
        (SendRejected("Too many."), Overloaded),
        (PayloadTooLarge("No."), BodyTooLarge),
    ],
    ids=["silent", "forbidden", "full", "large"],
)
async def test_a_broker_that_is_there_is_not_waited_for(failure: BrokerError, error: type[Exception]) -> None:
    async with opened(Desk(failure)) as desk:
        with pytest.raises(error):
            await desk.publishing(1)
        assert not desk.broker.failures


async def test_who_has_waited_waits_for_a_place_too() -> None:
    async with opened(Desk(BrokerUnavailable("Away."), SendRejected("All go at once."))) as desk:
        await desk.publishing(1)
        assert await desk.published(1) == ["req_1"]


async def test_a_topic_that_could_not_be_opened_is_opened_by_the_next_request() -> None:
    async with opened(Desk(wait_s=0.0)) as desk:
        await desk.queue.close(MODEL)
        desk.broker.unopened = [BrokerUnavailable("Not yet.")]
        with pytest.raises(NotPublished):
            await desk.publishing(1)
        await desk.publishing(2)
        assert await desk.published(1) == ["req_2"]


async def test_a_topic_that_cannot_be_used_for_long_is_waited_for_no_longer() -> None:
    async with opened(Desk(wait_s=SHORT_S)) as desk:
        await desk.queue.close(MODEL)
        desk.broker.unopened = [BrokerUnavailable("Not yet.")] * 1000
        with pytest.raises(NotPublished):
            await desk.publishing(1)
        desk.broker.unopened = []
        await desk.publishing(2)
        assert await desk.published(1) == ["req_2"]


async def test_a_client_that_leaves_while_its_topic_is_opened_takes_nobody_along() -> None:
    async with opened(Desk(wait_s=0.0)) as desk:
        await desk.queue.close(MODEL)
        desk.broker.may_open.clear()
        leaving, staying = desk.publishing(1), desk.publishing(2)
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        desk.broker.may_open.set()
        await staying
        assert await desk.published(1) == ["req_2"]


async def test_a_topic_that_is_not_opened_in_time_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.queue.request_queue.OPEN_WITHIN_S", 0.01)
    async with opened(Desk(wait_s=0.0)) as desk:
        await desk.queue.close(MODEL)
        desk.broker.may_open.clear()
        with pytest.raises(NotPublished) as unpublished:
            await desk.publishing(1)
        assert unpublished.value.retry_after_ms == 1000
        desk.broker.may_open.set()
        await desk.queue.prepare(MODEL)
        await desk.publishing(2)
        assert await desk.published(1) == ["req_2"]


async def test_an_operator_reads_once_why_a_queue_takes_no_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Its clients hear no more than that it cannot be reached, whatever a policy or a permission says."""
    async with opened(Desk(wait_s=0.0)) as desk:
        await desk.queue.close(MODEL)
        desk.broker.unopened = [BrokerError("It has a quota."), BrokerError("It has a quota.")]
        for _ in range(2):
            with pytest.raises(NotPublished):
                await desk.publishing(1)
        assert caplog.text.count('why="It has a quota."') == 1
        # The same of one that was opened; and anew after it took some.
        for times in (1, 2):
            await desk.publishing(2)
            desk.broker.failures = [BrokerError("It is terminated."), BrokerError("It is terminated.")]
            for _ in range(2):
                with pytest.raises(NotPublished):
                    await desk.publishing(3)
            assert caplog.text.count('why="It is terminated."') == times


async def test_what_is_no_fault_of_the_queue_is_not_told_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(Desk(SendRejected("Too many."), PayloadTooLarge("No."), wait_s=0.0)) as desk:
        for error in (Overloaded, BodyTooLarge):
            with pytest.raises(error):
                await desk.publishing(1)
        desk.server.set_available(False)
        with pytest.raises(NotPublished):
            await desk.publishing(1)
        assert "queue_refuses" not in caplog.text
