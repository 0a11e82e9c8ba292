"""The node: pulls requests with one permit per free slot, runs an attempt for each, and hears what gateways say."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from broker.interface import BrokerError, ConsumerClosed
from process import crash
from process.lifecycle import Tasks
from process.logging import Log
from wire import codec
from wire.control import Acked, AreYouAlive, ControlMessage, CountTokens, CredentialLimited, Drain, Pause, Resume
from wire.errors import FleetError, InvalidName, UndecodableMessage
from wire.piece import Alive, Echo
from wire.presence import RUNNING_TOLD_MAX, RunningRequest
from wire.topics import check_incarnation
from wire.usage import Usage
from workernode.attempt import Attempt
from workernode.intake import Intake
from workernode.outcome import Answered
from workernode.prompt_counts import PromptCounts
from workernode.traced import attempt_span, end_attempt

if TYPE_CHECKING:
    from broker.interface import Consumer, Delivery
    from process.otel import Traces
    from wire.control import Word
    from wire.presence import NodeState
    from workernode.dead_letters import DeadLetters
    from workernode.engine import Engine
    from workernode.heartbeat import Heartbeat
    from workernode.identity import NodeIdentity
    from workernode.metrics import NodeMetrics
    from workernode.record import Recorder
    from workernode.remote.pace import CredentialPace
    from workernode.uplinks import Uplinks

log = Log("node")

TEND_EVERY_S = 1.0
SETTLING_MAX = 256
"""Attempts that tell their end without a slot; above, they keep it. So many wait when charges cannot be stored."""


class Node:
    """Everything between the queue and the engine. :mod:`workernode.role` builds it and ends it."""

    def __init__(
        self,
        identity: NodeIdentity,
        engine: Engine,
        uplinks: Uplinks,
        recorder: Recorder,
        metrics: NodeMetrics,
        dead_letters: DeadLetters,
        *,
        slots: int,
        parked_max: int,
        pace: CredentialPace | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.slots = slots
        self.draining = False
        self.drain_asked = asyncio.Event()
        self._identity = identity
        self._engine = engine
        self._uplinks = uplinks
        self._recorder = recorder
        self._metrics = metrics
        self._dead_letters = dead_letters
        self._parked_max = parked_max
        self._traces = traces
        self._attempts: dict[str, Attempt] = {}
        self._parked = 0
        self._settling = 0
        self._taken = 0  # deliveries at hand, parked ones too
        self._pulling = 0  # tasks that hold a slot, wait for one, or keep a parked delivery
        self._alone = asyncio.Lock()
        self._intake = Intake(recorder, pace)
        self._counts = PromptCounts(engine, uplinks)
        self._idle = asyncio.Event()  # set while no attempt is left
        self._idle.set()
        self._tasks = Tasks(log)
        self._requests: Consumer | None = None
        self._heartbeat: Heartbeat | None = None

    def __repr__(self) -> str:
        return f"<Node slots={self.slots} busy={self.busy} parked={self._parked} pulling={self._pulling}>"

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return len(self._attempts) - self._slotless

    @property
    def _slotless(self) -> int:
        """Deliveries at hand that have no slot, or none any more."""
        return self._parked + self._settling

    @property
    def started(self) -> bool:
        """Whether it takes work, or would if it could."""
        return self._requests is not None

    @property
    def has_engine(self) -> bool:
        """Whether its engine has started, and is not known to have ended."""
        return self.started and self._intake.has_engine

    def load(self) -> tuple[int, int]:
        """Busy slots and parked deliveries."""
        return self.busy, self._parked

    def running(self) -> tuple[RunningRequest, ...]:
        """The oldest requests that have a slot."""
        working = (attempt for attempt in self._attempts.values() if attempt.slotless is None)
        return tuple(
            RunningRequest(request_id=attempt.request.request_id, taken_ms=attempt.taken_ms)
            for attempt in islice(working, RUNNING_TOLD_MAX)
        )

    def start(self, requests: Consumer, heartbeat: Heartbeat) -> None:
        """Begin to take work."""
        self._requests, self._heartbeat = requests, heartbeat
        self._tasks.keep(self._tend, "tend links")
        self._intake.start(heartbeat)
        for _ in range(self.slots):
            self._start_pulling()

    def resize(self, slots: int) -> None:
        """Have so many slots from now on, at least one.

        Permits that are out cannot be taken back: of fewer slots, the ones too many end as they come free, and what a
        permit too many brings goes to another node.
        """
        if slots == self.slots:
            return
        self.slots = slots
        self._metrics.slots.set(slots)
        if self._heartbeat is not None:
            self._heartbeat.resized(slots)
            while not self.draining and self._pulling - self._slotless < slots:
                self._start_pulling()

    def engine_is(self, state: NodeState, sentence: str | None = None) -> None:
        """An engine that knows says how it is: work is taken while it is ``ready``."""
        self._intake.engine_is(state, sentence)

    def hear(self, payload: bytes) -> None:
        """Take a message on this node's control topic: what gateways and operators say."""
        try:
            message = codec.decode_control(payload)
        except UndecodableMessage as error:
            self._not_understood(error)
            return
        if isinstance(message, Echo):
            if message.sender == self._identity.incarnation:
                self._uplinks.echo_heard()
        else:
            self._take_words(message)

    async def drain(self, grace_s: float) -> None:
        """Take no new work; let running answers finish within ``grace_s`` seconds, and hand the others back."""
        self.draining = True
        self._intake.leave()
        for attempt in list(self._attempts.values()):
            attempt.interrupt(working=False)
        if not await self._empty(grace_s):
            for attempt in list(self._attempts.values()):
                attempt.interrupt(working=True)
            if not await self._empty(1.5):
                log.warning("Some requests could not be handed back in order.", action="drain_cut", left=self.busy)

    async def aclose(self) -> None:
        """Stop everything. What was not handed back goes to other nodes when the broker sees the connection end."""
        await self._intake.aclose()
        await self._counts.aclose()
        await self._tasks.aclose()

    def _start_pulling(self) -> None:
        self._pulling += 1
        self._tasks.start(self._pull(), "slot")

    async def _pull(self) -> None:
        """One slot: take a request, see it to its end, take the next."""
        requests, gate = self._requests, self._intake.gate
        assert requests is not None
        try:
            while self._pulling - self._slotless <= self.slots and not self.draining:
                trying = await gate.enter()
                if self.draining:
                    return
                if not trying and self._pulling - self._slotless > self.slots:
                    gate.pace.withdraw()  # it waited while slots were taken away
                    return
                try:
                    delivery = await requests.receive()
                except ConsumerClosed:
                    return
                crash.point("after_receive")
                if self.draining or not (trying or (gate.is_open and self._taken - self._slotless < self.slots)):
                    # A permit that was out when we stopped taking: its message goes to another node at once.
                    requests.nack(delivery)
                    gate.pace.withdraw()
                    continue
                self._taken += 1
                try:
                    await self._handle(requests, delivery, trying=trying)
                except Exception as error:
                    # Neither its slot nor its request shall be lost with it.
                    log.error("An attempt failed in a way it should not.", error=error, action="attempt_fault")
                    requests.nack(delivery)
                finally:
                    self._taken -= 1
        finally:
            self._pulling -= 1

    async def _handle(self, requests: Consumer, delivery: Delivery, *, trying: bool) -> None:
        """See one delivery to its end. ``trying``: it was let in to find out whether the upstream is well again."""
        pace = self._intake.gate.pace
        pace.begin()
        attempt = await self._attempt_at(requests, delivery)
        if attempt is None:
            pace.end(called=False)
            self._intake.judge(None, trying=trying)
            return
        attempt.trying = trying
        self._attempts[attempt.attempt_id] = attempt
        self._idle.clear()
        self._metrics.busy.set(self.busy)
        try:
            queue = await attempt.run(
                on_park=lambda parked: self._park(attempt, parked=parked),
                on_done=lambda: self._done(attempt),
                on_token=(lambda: self._answering(attempt)) if trying else None,
            )
        finally:
            if attempt.span is not None:
                end_attempt(attempt.span, attempt)
            attempt.link.users -= 1
            del self._attempts[attempt.attempt_id]
            if not self._attempts:
                self._idle.set()
            match attempt.slotless:
                case "parked":
                    self._parked -= 1
                case "settling":
                    self._settling -= 1
                case None:
                    pace.end(called=attempt.begun)
            self._metrics.busy.set(self.busy)
        match queue:
            case "ack":
                requests.ack(delivery)
                crash.point("after_ack_before_settled")
            case "nack":
                requests.nack(delivery)
            case _:
                assert_never(queue)
        self._metrics.settled(attempt, queue)
        if queue == "ack" and attempt.begun and self._heartbeat is not None:
            # What was handed back is still to be done, and what never began holds its slot for no time worth naming.
            self._heartbeat.served(attempt.slot_s * 1000)
        if attempt.outcome is None:
            self._intake.judge(None, trying=attempt.trying)

    def _answering(self, attempt: Attempt) -> None:
        """The upstream answers the one that tries: others shall not wait for the end of a long answer."""
        if attempt.trying:
            self._intake.judge(Answered(Usage()), trying=True)
            attempt.trying = False

    def _done(self, attempt: Attempt) -> None:
        """The engine is done with it: another request may have its slot while this one's end is told."""
        attempt.slot_s = asyncio.get_running_loop().time() - attempt.slot_since
        # First, for the next request shall not go to an upstream that this one has found ill.
        self._intake.judge(attempt.outcome, trying=attempt.trying)
        if attempt.slotless is None and attempt.begun and self._settling < SETTLING_MAX:
            attempt.slotless = "settling"
            self._settling += 1
            self._intake.gate.pace.end(called=True)
            self._metrics.busy.set(self.busy)
            if not self.draining:
                self._start_pulling()

    async def _attempt_at(self, requests: Consumer, delivery: Delivery) -> Attempt | None:
        """The attempt at what was delivered; None if that was put aside, or handed back."""
        try:
            request = codec.decode_request(delivery.payload)
            check_incarnation(request.gateway)
        except (UndecodableMessage, InvalidName) as error:
            await self._quarantine(delivery, error)
            requests.ack(delivery)
            return None
        try:
            link = await self._uplinks.open(request.gateway)
        except BrokerError:
            requests.nack(delivery)
            return None
        if self.draining:
            # It began while the line was opened, and has counted without this request.
            link.users -= 1
            requests.nack(delivery)
            return None
        attempt = Attempt(
            delivery,
            request,
            link,
            self._engine,
            self._recorder,
            self._dead_letters,
            self._alone,
            model=self._identity.model,
        )
        if self._traces is not None:
            attempt.span = attempt_span(self._traces, request, attempt.attempt_id, self._identity.incarnation)
        return attempt

    def _park(self, attempt: Attempt, *, parked: bool) -> bool:
        """The attempt keeps its delivery and gives up its slot, or shall work after all: False if there is no room for
        the one, or no slot for the other."""
        if not parked:
            if attempt.slotless == "parked":
                # Deliveries that are not attempts yet have their slot, too; and who is paused begins nothing.
                if self._taken - self._slotless >= self.slots or not self._intake.gate.is_open:
                    return False
                self._parked -= 1
                attempt.slotless = None
                attempt.slot_since = asyncio.get_running_loop().time()
                self._intake.gate.pace.resume()
            return True
        if self._parked >= self._parked_max:
            return False
        attempt.slotless = "parked"
        self._parked += 1
        self._intake.gate.pace.end(called=False)
        # It finds nothing out as long as another attempt answers: the next one shall.
        self._intake.judge(None, trying=attempt.trying)
        attempt.trying = False
        if not self.draining:
            self._start_pulling()
        return True

    async def _quarantine(self, delivery: Delivery, error: FleetError) -> None:
        """Keep what may be kept of a message that nobody can read: a trace in the log and in the ledger."""
        self._metrics.undecodable["requests"].inc()
        digest, size = hashlib.sha256(delivery.payload).hexdigest(), len(delivery.payload)
        log.error(
            "A message in the request topic could not be read and was put aside.",
            action="quarantined",
            sha256=digest,
            bytes=size,
            why=error.message,
        )
        sentence = (
            f"A message of {size} bytes in the request topic of {self._identity.model} could not be read and was put "
            f"aside: {error.message} Its SHA-256 is {digest}."
        )
        # Awaited: a flood of them waits for the ledger instead of filling this process.
        await self._recorder.publish(self._recorder.node_event("node.quarantined", sentence, about=digest[:32]))

    def _take_words(self, message: ControlMessage) -> None:
        """Obey each word that can be read: one of a newer gateway must not cost the acknowledgement beside it."""
        for raw in message.words:
            try:
                word = codec.decode_word(raw)
            except UndecodableMessage as error:
                self._not_understood(error)
            else:
                self._obey(message.sender, word)

    def _not_understood(self, error: UndecodableMessage) -> None:
        self._metrics.undecodable["control"].inc()
        log.debug("A control message could not be read.", action="undecodable", why=error.message)

    def _obey(self, sender: str, word: Word) -> None:
        match word:
            case Acked():
                self._uplinks.acked(sender, word)
            case AreYouAlive(attempt_id=attempt_id):
                if (attempt := self._attempts.get(attempt_id)) is not None:
                    attempt.still_here()
                elif (link := self._uplinks.get(sender)) is not None:
                    link.push(Alive(attempt_id=attempt_id, holding=False), urgent=True)
            case Drain():
                self.drain_asked.set()
            case Pause(sentence=sentence):
                self._intake.pause(sentence)
            case Resume():
                self._intake.resume()
            case CredentialLimited(credential=credential, until_ms=until_ms):
                self._intake.warned(credential, until_ms)
            case CountTokens():
                self._counts.take(sender, word)
            case _:
                if (attempt := self._attempts.get(word.attempt_id)) is not None:
                    attempt.hear(word)

    async def _tend(self) -> None:
        """Keep lines warm whose gateway hears nothing while engines think, and close the ones nobody needs."""
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            for attempt in list(self._attempts.values()):
                attempt.keep_line_warm()
            await self._uplinks.close_idle()
            self._intake.tend()

    async def _empty(self, within_s: float) -> bool:
        """Wait until no attempt is left; False if that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
