"""Permits in = permits out: whatever becomes of requests, every slot of a node comes back and asks for work again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, assert_never
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.interface import Kind
from broker.memory import MemoryBroker, MemoryServer
from process.identity import new_request_id, now_ms
from tests.waiting import until
from wire import codec
from wire.control import Accepted, Acked, ControlMessage, Go, Park, Settle, Stop, StopReason, Word
from wire.errors import ErrorBody
from wire.link import LinkReceiver
from wire.piece import Echo, Failed, Finished, Frame, Settled, Started
from wire.request import Request
from wire.topics import LEDGER, WORKERS, Topics
from wire.usage import Usage
from workernode.condition import FAILURES_IN_A_ROW
from workernode.dead_letters import DeadLetters
from workernode.engine import EngineDetails
from workernode.heartbeat import Heartbeat
from workernode.identity import NodeIdentity
from workernode.metrics import NodeMetrics
from workernode.node import Node
from workernode.outcome import Answered, Later, Refused
from workernode.record import Recorder
from workernode.remote.allowance import Limits
from workernode.remote.pace import CredentialPace
from workernode.uplinks import Uplinks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from broker.memory import MemoryConsumer
    from workernode.engine import Answer, Job

GATEWAY, NODE, MODEL = "gateway-1", "node-1", "model"
SLOTS, PARKED_MAX = 3, 2
TOPICS = Topics()
End = Literal["answered", "refused", "limited", "unreachable", "raises", "hangs"]
First = Literal["go", "park", "park, go", "park, settle", "park, stop", "silence"] | StopReason
Verdict = Literal["accepted", "silence"] | StopReason


@dataclass(frozen=True)
class Plan:
    """What happens to one request: what its gateway says first, how its engine ends, and what comes of the end.

    At the second delivery it hears ``again``, and is answered.
    """

    first: First = "go"
    end: End = "answered"
    verdict: Verdict = "accepted"
    again: First = "go"


class PlannedEngine:
    """Ends each answer as its request's plan says."""

    details = EngineDetails()

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway

    async def start(self) -> None: ...

    async def count(self, prompts: Sequence[str]) -> None: ...

    async def aclose(self) -> None: ...

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        plan = self._gateway.plan_of(job.request.request_id)
        await answer.write(b"{}\n", text_chars=2)
        match plan.end:
            case "answered":
                return Answered(Usage())
            case "refused":
                return Refused(ErrorBody(code="upstream_refused", message="No.", http_status=400))
            case "limited":
                return Later(ErrorBody(code="upstream_rate_limited", message="Later."))
            case "unreachable":
                return Later(ErrorBody(code="upstream_failed", message="Later."))
            case "raises":
                raise ValueError("an engine's fault")
            case "hangs":
                self._gateway.stop_soon(job.request.request_id)
                await asyncio.Event().wait()
                raise AssertionError
            case _:
                assert_never(plan.end)


@dataclass
class FakeGateway:
    """Says what the plans say, in the order in which a real one would."""

    broker: MemoryBroker
    plans: dict[str, Plan] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    """Request by attempt."""
    attempts: dict[str, str] = field(default_factory=dict)
    """The latest attempt by request."""
    settled: set[str] = field(default_factory=set)
    receiver: LinkReceiver = field(default_factory=LinkReceiver)

    async def start(self) -> None:
        await self.broker.listen(TOPICS.link(GATEWAY), self._hear, waiting_max=1000)
        self.producer = await self.broker.producer(TOPICS.control(NODE))
        self.queue = await self.broker.producer(TOPICS.requests(MODEL))

    async def publish(self, plan: Plan | None) -> None:
        if plan is None:
            await self.queue.send(b"no request at all")
            return
        request_id = new_request_id()
        self.plans[request_id] = plan
        at = now_ms()
        request = Request(
            request_id=request_id,
            model=MODEL,
            endpoint="chat/completions",
            body=b"{}",
            gateway=GATEWAY,
            received_ms=at,
            deadline_ms=at + 60_000,
        )
        await self.queue.send(codec.encode(request))

    def plan_of(self, request_id: str) -> Plan:
        plan = self.plans[request_id]
        return plan if self.deliveries.get(request_id, 1) <= 1 else Plan(first=plan.again)

    def stop_soon(self, request_id: str) -> None:
        self.say(Stop(attempt_id=self.attempts[request_id], reason="cancelled"))

    def say(self, *words: Word) -> None:
        raw = [codec.encode_word(word) for word in words]
        self.producer.post(codec.encode(ControlMessage(sender=GATEWAY, words=raw)))

    def _hear(self, payload: bytes) -> None:
        message = codec.decode_link(payload)
        if isinstance(message, Echo):
            return
        for raw in self.receiver.receive(message.first, message.frames):
            self.say(*self._words(codec.decode_frame(raw)))
        self.say(Acked(line=message.line, through=self.receiver.through))

    def _words(self, frame: Frame) -> list[Word]:
        match frame:
            case Started(attempt_id=attempt, request_id=request_id):
                if attempt in self.requests:
                    return []
                self.requests[attempt], self.attempts[request_id] = request_id, attempt
                self.deliveries[request_id] = self.deliveries.get(request_id, 0) + 1
                return _first_words(attempt, self.plan_of(request_id).first)
            case Finished(attempt_id=attempt) | Failed(attempt_id=attempt):
                verdict = self.plan_of(self.requests[attempt]).verdict
                if verdict == "accepted" or getattr(frame, "cancelled", False):
                    return [Accepted(attempt_id=attempt)]
                if verdict == "silence":
                    return []
                return [Stop(attempt_id=attempt, reason=verdict)]
            case Settled(request_id=request_id):
                self.settled.add(request_id)
                return []
            case _:
                return []


def _first_words(attempt: str, first: First) -> list[Word]:
    go, park = Go(attempt_id=attempt, number=1, remaining_ms=60_000), Park(attempt_id=attempt)
    match first:
        case "go":
            return [go]
        case "park":
            return [park]
        case "silence":
            return []
        case "park, go":
            return [park, go]
        case "park, settle":
            return [park, Settle(attempt_id=attempt, charge=b"{}")]
        case "park, stop":
            return [park, Stop(attempt_id=attempt, reason="done")]
        case _:
            return [Stop(attempt_id=attempt, reason=first)]


reasons: list[StopReason] = ["cancelled", "expired", "superseded", "again", "done", "unknown", "poison"]
firsts: list[First] = ["go", "go", "park, go", "park, settle", "park, stop", *reasons]
ends: list[End] = ["answered", "refused", "limited", "unreachable", "raises", "hangs"]
verdicts: list[Verdict] = ["accepted", "accepted", *reasons]
second: list[First] = ["go", "park, go", "park, settle", "park, stop", "cancelled", "done"]
plans = st.none() | st.builds(
    Plan, st.sampled_from(firsts), st.sampled_from(ends), st.sampled_from(verdicts), st.sampled_from(second)
)


@given(load=st.lists(plans, max_size=12), drained=st.booleans())
@example(load=[Plan(end="hangs")] * 6, drained=False)
@example(load=[Plan(first="park, stop")] * 12, drained=False)
@example(load=[Plan(end="limited")] * 6, drained=True)
@example(load=[Plan(end="limited", again="park, settle")], drained=False)
@example(load=[Plan(end="limited", again="cancelled"), None], drained=False)
@settings(max_examples=60)
def test_every_slot_comes_back_and_asks_for_work_again(load: list[Plan | None], drained: bool) -> None:
    with _trying_often():
        asyncio.run(_check(load, drained=drained))


async def _check(load: list[Plan | None], *, drained: bool) -> None:
    async with _running_node() as (gateway, node, requests):
        for plan in load:
            await gateway.publish(plan)
        if drained:
            await _drains(node, requests)
        else:
            await _comes_to_rest(gateway, node, requests)


@given(load=st.lists(plans | st.integers(1, 2 * SLOTS), max_size=16), last=st.integers(1, 2 * SLOTS))
@example(load=[6, Plan(first="park, go"), Plan(), 1, Plan(), Plan(), 3], last=1)
@settings(max_examples=60)
def test_permits_follow_the_number_of_slots(load: list[Plan | int | None], last: int) -> None:
    with _trying_often():
        asyncio.run(_check_sizes(load, last))


async def _check_sizes(load: list[Plan | int | None], last: int) -> None:
    async with _running_node(paced=False) as (gateway, node, requests):
        for step in load:
            if isinstance(step, int):
                node.resize(step)
            else:
                await gateway.publish(step)
        node.resize(last)
        # A permit that is out cannot be taken back: each one too many ends with the request that it brings.
        for _ in range(2 * SLOTS):
            await gateway.publish(Plan())
        await _comes_to_rest(gateway, node, requests, slots=last)


async def test_of_fewer_slots_no_more_are_taken_whatever_the_permits_bring() -> None:
    async with _running_node(paced=False) as (gateway, node, requests):
        await until(lambda: requests.permits == SLOTS)
        node.resize(1)
        for _ in range(2 * SLOTS):
            await gateway.publish(Plan(first="silence"))
        await until(lambda: requests.permits == 0 and node._pulling == 1)
        assert node.load() == (1, 0)
        for _ in range(2 * SLOTS):
            (working,) = node._attempts
            gateway.say(Stop(attempt_id=working, reason="done"))
            await until(lambda: working not in node._attempts)  # noqa: B023
            assert node.busy <= 1
            await until(lambda: node.busy == 1 or requests.permits == 1)
        node.resize(4)
        await _comes_to_rest(gateway, node, requests, slots=4)


async def test_no_work_is_taken_while_the_engine_is_away() -> None:
    async with _running_node() as (gateway, node, requests):
        await until(lambda: requests.permits == SLOTS)
        node.engine_is("starting", "It loads.")
        for _ in range(2 * SLOTS):
            await gateway.publish(Plan())
        await until(lambda: requests.permits == 0)
        assert not gateway.requests
        node.engine_is("ready")
        await _comes_to_rest(gateway, node, requests)
        assert len(gateway.requests) == 2 * SLOTS + 1


async def test_parked_deliveries_take_no_slot_and_are_bounded() -> None:
    async with _running_node() as (gateway, node, requests):
        for _ in range(SLOTS):
            await gateway.publish(Plan(first="park"))
        # One more than may be parked is handed back, and comes again.
        await until(lambda: node.load() == (0, PARKED_MAX))
        await until(lambda: requests.permits == SLOTS)
        await gateway.publish(Plan())
        await until(lambda: len(gateway.deliveries) == SLOTS + 1)
        for attempt_id in list(gateway.requests):
            gateway.say(Stop(attempt_id=attempt_id, reason="done"))
        await _comes_to_rest(gateway, node, requests)


async def test_a_request_that_is_parked_does_not_keep_an_upstream_from_being_tried() -> None:
    with _trying_often():
        async with _running_node() as (gateway, node, requests):
            condition = node._intake._condition
            for _ in range(FAILURES_IN_A_ROW):
                await gateway.publish(Plan(end="unreachable", again="done"))
            await until(lambda: condition.trouble == "unreachable")
            await gateway.publish(Plan(first="park"))
            await until(lambda: node.load() == (0, 1))
            await gateway.publish(Plan())
            await until(lambda: condition.trouble is None)
            for attempt_id in list(node._attempts):
                gateway.say(Stop(attempt_id=attempt_id, reason="done"))
            await _comes_to_rest(gateway, node, requests)


async def test_a_slot_is_free_while_an_end_is_told_but_not_without_bound() -> None:
    with patch("workernode.node.SETTLING_MAX", 4):
        async with _running_node(paced=False) as (gateway, node, requests):
            for _ in range(4 + SLOTS + 2):
                await gateway.publish(Plan(verdict="silence"))
            await until(lambda: (len(node._attempts), node.busy) == (4 + SLOTS, SLOTS))
            assert requests.permits == 0

            def all_are_accepted() -> bool:
                for attempt_id in node._attempts:
                    gateway.say(Accepted(attempt_id=attempt_id))
                return not gateway.plans.keys() - gateway.settled

            await until(all_are_accepted)
            await _comes_to_rest(gateway, node, requests)


@contextmanager
def _trying_often() -> Iterator[None]:
    with (
        patch("workernode.condition.TRY_AGAIN_S_MIN", 0.005),
        patch("workernode.condition.TRY_AGAIN_S_MAX", 0.01),
        patch("workernode.intake.TRY_AGAIN_S_MIN", 0.005),
    ):
        yield


@asynccontextmanager
async def _running_node(*, paced: bool = True) -> AsyncIterator[tuple[FakeGateway, Node, MemoryConsumer]]:
    broker = MemoryBroker(MemoryServer(nack_tick_s=0, nack_delay_s=0))
    gateway = FakeGateway(broker)
    await gateway.start()
    await broker.ensure(TOPICS.results, LEDGER)
    identity = NodeIdentity(NODE, "node", MODEL, "remote")
    engine = PlannedEngine(gateway)
    recorder = Recorder(identity, engine, await broker.producer(TOPICS.results))
    uplinks = Uplinks(broker, TOPICS, NODE)
    letters = DeadLetters(broker, TOPICS.dead_letters(MODEL), NODE)
    metrics = NodeMetrics(SLOTS)
    clock = asyncio.get_running_loop().time
    limits = Limits(concurrency=SLOTS)
    pace = CredentialPace(lambda: "c", NODE, limits, clock=clock, unix_ms=now_ms) if paced else None
    node = Node(identity, engine, uplinks, recorder, metrics, letters, slots=SLOTS, parked_max=PARKED_MAX, pace=pace)
    await broker.listen(TOPICS.control(NODE), node.hear, waiting_max=1000)
    requests = await broker.consumer(TOPICS.requests(MODEL), WORKERS, Kind.SHARED, from_earliest=True)
    node.start(requests, Heartbeat(identity, engine, SLOTS, node.load))
    try:
        yield gateway, node, requests
    finally:
        await requests.aclose()
        await node.aclose()
        await uplinks.aclose()
        await broker.aclose()


async def _comes_to_rest(gateway: FakeGateway, node: Node, requests: MemoryConsumer, *, slots: int = SLOTS) -> None:
    group = gateway.broker.server.topic(TOPICS.requests(MODEL)).subscription(WORKERS)
    await until(lambda: group.backlog == group.held == 0, every_s=0.001)
    # An upstream in trouble keeps slots at the gate until something is answered.
    await gateway.publish(Plan())
    await until(lambda: group.backlog == group.held == 0, every_s=0.001)
    await until(lambda: requests.permits == slots, every_s=0.001)
    assert node.load() == (0, 0)
    assert node._pulling == slots
    pace = node._intake.gate.pace
    if isinstance(pace, CredentialPace):
        assert (pace._allowance._out, pace._allowance._running) == (slots, 0)
    assert not node._attempts


async def _drains(node: Node, requests: MemoryConsumer) -> None:
    await node.drain(0.01)
    assert node.load() == (0, 0)
    assert not node._attempts
    await requests.aclose()
    await until(lambda: node._pulling == 0, every_s=0.001)
