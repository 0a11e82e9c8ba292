"""One execution of one request by this node: from the delivery to the acknowledgement, in named steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from process import crash
from process.identity import new_attempt_id, now_ms
from process.logging import Log
from wire.control import Accepted, Go, Park, Settle, Stop
from wire.errors import FleetError, ModelNotFound, UnsupportedEndpoint
from wire.piece import PIECE_BYTES_MAX, Alive, Content, Failed, Finished, Settled, Started
from wire.usage import Usage
from workernode.engine import Job, answer_id
from workernode.outcome import Answered, Cancelled, Interrupted, Refused
from workernode.prompts import CHARS_PER_TOKEN, estimated_tokens
from workernode.settling import GatewayGone, ending, settlement
from workernode.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker.interface import Delivery
    from process.otel import Span
    from wire.control import StopReason, Word
    from wire.piece import End
    from wire.request import Request
    from workernode.dead_letters import DeadLetters
    from workernode.engine import Engine
    from workernode.outcome import Outcome
    from workernode.record import Recorder
    from workernode.settling import Bill, Ending, Queue, Verdict
    from workernode.uplink import Uplink

log = Log("node")

ASK_AGAIN_S = 1.0
SUSPECT_ASK_AGAIN_S = 0.05
"""A gateway that was found gone answers within this, or its request gives its slot up until it is heard again, or found
gone once more: it may have left thousands, and others wait behind them."""
PARKED_ASK_AGAIN_S = 0.5
"""Parked attempts ask more often: that is how the death of the holder is noticed, and they are few. Those that wait for
a gateway which may be gone are many, and ask no more often than others."""


class Attempt:
    """What happens to one delivery; :meth:`run` tells it in order. The node hands it the gateway's words."""

    def __init__(
        self,
        delivery: Delivery,
        request: Request,
        link: Uplink,
        engine: Engine,
        recorder: Recorder,
        dead_letters: DeadLetters,
        alone: asyncio.Lock,
        *,
        model: str,
    ) -> None:
        """``model`` and ``alone`` are the node's: who shall run beside no other such attempt has it while it does."""
        self.attempt_id = new_attempt_id()
        self.request = request
        self.delivery = delivery
        self.begun = False
        self.outcome: Outcome | None = None
        """How it ended, once it has."""
        self.parked = False
        self.trying = False
        """Set by the node while this is to find out whether the upstream is well again."""
        self.slotless: Literal["parked", "settling"] | None = None
        """Set by the node while it counts this attempt among those that have given up their slot."""
        self.number = 1
        self.published_ms = delivery.published_ms
        self.taken_ms = now_ms()
        loop = asyncio.get_running_loop()
        self.slot_since = loop.time()
        """Loop time from which on it holds its slot."""
        self.slot_s = 0.0
        """How long it held it, once its work is done."""
        self.first_token_ms: int | None = None
        self.last_token_ms: int | None = None
        self.answer_bytes = 0
        self.text_chars = 0
        self.link = link
        self._engine = engine
        self._recorder = recorder
        self._dead_letters = dead_letters
        self._alone = alone
        self._is_alone = False
        self._model = model
        self._says_that_it_begins = False
        self._pieces = 0
        self._words: Words[Go | Park | Settle | Verdict] = Words(loop)
        self._prefix: str | None = None
        self._remaining_s = (request.deadline_ms - self.taken_ms) / 1000
        self._working: asyncio.Task[None] | None = None  # this task, while the engine has it
        self._stopped: Cancelled | Interrupted | None = None
        self._bill: Bill = None
        self._on_token: Callable[[], None] | None = None
        self.span: Span | None = None
        """Hears of its steps. Set, and ended, by the node, where somebody wants traces."""

    def __repr__(self) -> str:
        state = "parked" if self.parked else "working" if self._working else "waiting"
        return f"<Attempt {self.attempt_id} of {self.request.request_id} {state} pieces={self._pieces}>"

    async def run(
        self,
        *,
        on_park: Callable[[bool], bool],
        on_done: Callable[[], None],
        on_token: Callable[[], None] | None = None,
    ) -> Queue:
        """Take the request to its end and return what becomes of the delivery. Raises nothing but cancellation.

        ``on_park`` is called with True when the slot could become free although the delivery is kept: it returns
        whether there is room for such a one; and with False when the work shall begin after that: it returns whether
        there is a slot for it. ``on_done`` is called when :attr:`outcome` is there, and only telling it is left to do;
        ``on_token`` with the first part of an answer.
        """
        self._on_token = on_token
        withdraw = self.link.on_gone(lambda: self.hear(GatewayGone()))
        try:
            outcome = await self._outcome(on_park)
            if isinstance(outcome, Settle):
                await self._recorder.publish(outcome.charge)
                queue: Queue = "ack"
            else:
                self.outcome = outcome
                on_done()
                queue = await self._settle(outcome)
        finally:
            withdraw()
            if self._is_alone:
                self._alone.release()
        if queue == "ack":
            crash.point("after_charge_before_ack")
            self.link.push(
                Settled(
                    attempt_id=self.attempt_id, request_id=self.request.request_id, abandoned=self._bill == "abandoned"
                )
            )
        return queue

    def hear(self, word: Word | GatewayGone) -> None:
        """Take a word of the gateway about this attempt. Harmless at any time, and more than once."""
        match word:
            case Stop() | GatewayGone() if self._working is not None:
                self._interrupt(Cancelled(_reason(word), self.usage_so_far()))
            case Go() | Park() | Stop() | Settle() | Accepted() | GatewayGone():
                self._words.put(word)
            case _:
                pass

    def interrupt(self, *, working: bool) -> None:
        """The node is going away: hand the request back, at once if it never began, else only if ``working`` too."""
        if self._working is None and not self.begun:
            self._words.put(Stop(attempt_id=self.attempt_id, reason="again"))
        elif working and self._working is not None:
            self._interrupt(Interrupted())

    def still_here(self) -> None:
        """Answer ``alive?``."""
        self.link.push(Alive(attempt_id=self.attempt_id, holding=True), urgent=True)

    def keep_line_warm(self) -> None:
        """Let the gateway hear something while the engine thinks: its acknowledgement tells that it lives."""
        self.link.keep_warm(Alive(attempt_id=self.attempt_id, holding=True))

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        """Send a part of the answer (:class:`workernode.engine.Answer`)."""
        first = self.first_token_ms is None
        self.last_token_ms = now_ms()
        if first:
            self.first_token_ms = self.last_token_ms
            self._step("first_token")
            if self._on_token is not None:
                self._on_token()
        self.answer_bytes += len(data)
        self.text_chars += text_chars
        if len(data) <= PIECE_BYTES_MAX:
            self._push_content(data, urgent=first)
        else:
            for piece in _pieces(data):
                self._push_content(piece, urgent=first)
                await self.link.room()
        await self.link.room()

    def usage_so_far(self) -> Usage:
        """An estimate of what was generated until now."""
        return Usage(
            prompt_tokens=estimated_tokens(self.request.body) if self.begun else 0,
            completion_tokens=-(-self.text_chars // CHARS_PER_TOKEN),
            estimated=True,
        )

    async def _outcome(self, on_park: Callable[[bool], bool]) -> Outcome | Settle:
        """Announce the attempt, get the gateway's word, and let the engine work."""
        self.link.push(self._started(), urgent=True)
        refusal = await self._permission(on_park)
        if refusal is not None:
            return refusal
        self.begun = True
        crash.point("after_go")
        if self._says_that_it_begins:
            # The gateway cannot know that an attempt that had to wait still lives: only once it has said that it begins
            # is a silent death this request's doing. Whoever asked just now is known to live by that.
            self.link.push(self._started(), urgent=True)
            if not await self.link.heard():
                # Nobody knows of this attempt: it must not run, or a request that kills its node would do so unseen.
                self.begun = False
                return Cancelled("gateway_gone", Usage())
        return await self._work()

    async def _permission(self, on_park: Callable[[bool], bool]) -> Cancelled | Settle | None:
        """Wait for ``go``. Returns None to begin, or how the attempt ended without beginning."""
        while True:
            word = await self._next_word(self._patience_s)
            match word:
                case Go(alone=True) if self._alone.locked():
                    if not self._park(on_park):
                        return Cancelled("again", Usage())
                case Go() if self.parked and not on_park(False):
                    # Many parked ones may be told to begin at once, when the node that had them dies.
                    return Cancelled("again", Usage())
                case Go():
                    await self._begin(word)
                    return None
                case Park():
                    if not self._park(on_park):
                        return Cancelled("again", Usage())
                case Settle():
                    return word
                case Stop() | GatewayGone():
                    return Cancelled(_reason(word), Usage())
                case Accepted():
                    pass
                case None:
                    if self.link.suspect:
                        self._park(on_park)
                    self.link.push(self._started(), urgent=True)

    @property
    def _patience_s(self) -> float:
        """How long the gateway's word is awaited before it is asked for again."""
        if self.link.suspect:
            return ASK_AGAIN_S if self.parked else SUSPECT_ASK_AGAIN_S
        return PARKED_ASK_AGAIN_S if self.parked else ASK_AGAIN_S

    async def _begin(self, go: Go) -> None:
        self.number, self._prefix, self._remaining_s = go.number, go.prefix, go.remaining_ms / 1000
        self._step("go")
        self._says_that_it_begins = self.parked or go.alone
        self.parked = False
        if go.alone:
            self._is_alone = await self._alone.acquire()

    def _park(self, on_park: Callable[[bool], bool]) -> bool:
        """Wait without a slot, if there is room for that."""
        if not self.parked and on_park(True):
            self.parked = True
            self._step("parked")
        return self.parked

    async def _work(self) -> Outcome:
        """Let the engine answer, and take a ``stop`` meanwhile."""
        request = self.request
        if request.model != self._model:
            log.error(
                "A request for another model came into this model's topic.",
                action="wrong_model",
                **self._ids,
                model=self._model,
            )
            error: FleetError = ModelNotFound("This request came to a node of another model.", param="model")
            return Refused(error.body(), upstream="unknown")
        if request.endpoint not in self._engine.details.endpoints:
            error = UnsupportedEndpoint(f"This model's node does not serve {request.endpoint}.")
            return Refused(error.body(), upstream="unknown")
        job = Job(
            request=request,
            answer_id=answer_id(request),
            created_s=request.received_ms // 1000,
            remaining_s=self._remaining_s,
            prefix=self._prefix,
            span=self.span,
        )
        while word := self._words.take():
            # It came between `started` and now; `go` is no news here.
            if isinstance(word, Stop | GatewayGone):
                # The engine has seen nothing of it: nothing is charged, and nobody takes this attempt for a death.
                self.begun = False
                return Cancelled(_reason(word), Usage())
        self._working = asyncio.current_task()
        try:
            crash.point("before_engine")
            self._step("engine")
            return await self._engine.answer(job, self)
        except asyncio.CancelledError:
            if self._stopped is None:
                raise  # the node itself was cancelled, not this attempt
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return self._stopped
        except Exception as error:
            log.error(
                "The engine failed in a way it should not.",
                error=error,
                action="engine_fault",
                **self._ids,
            )
            return Refused(FleetError("The model's node failed to answer.").body(), upstream="unknown")
        finally:
            self._working = None

    async def _settle(self, outcome: Outcome) -> Queue:
        """Tell the end, hear the verdict, tell the event, and say what becomes of the delivery."""
        said = ending(outcome, begun=self.begun)
        usage = outcome.usage if isinstance(outcome, Answered | Cancelled) else self.usage_so_far()
        finish_reason = outcome.finish_reason if isinstance(outcome, Answered) else None
        charge, verdict = b"", None
        if said is not None and said.error is None:
            charge = self._recorder.charge(self, usage, finish_reason, cancelled=said.cancelled)
        if said is not None:
            crash.point("before_finished")
            self._step("finished")
            verdict = await self._verdict(self._end(said, usage, finish_reason, charge))
            crash.point("after_accepted")
        elif not self.begun and isinstance(outcome, Cancelled) and outcome.reason == "again":
            # Handed back unasked: the gateway shall not take this attempt for one that still waits.
            self.link.push(Alive(attempt_id=self.attempt_id, holding=False), urgent=True)
        result = settlement(outcome, verdict, begun=self.begun)
        self._bill = result.bill
        if result.bill == "charge":
            crash.point("before_charge")
            await self._recorder.publish(charge)
        elif result.bill is not None:
            await self._recorder.publish(self._recorder.attempt_event(self, result.bill, outcome, usage))
        self._step("settled")
        if result.dead_letter:
            await self._dead_letters.bury(self.request)
        return result.queue

    def _end(self, said: Ending, usage: Usage, finish_reason: str | None, charge: bytes) -> End:
        number = self._pieces + 1
        if said.error is not None:
            return Failed(attempt_id=self.attempt_id, number=number, error=said.error, again=said.again)
        return Finished(
            attempt_id=self.attempt_id,
            number=number,
            usage=usage,
            charge=charge,
            finish_reason=finish_reason,
            cancelled=said.cancelled,
        )

    async def _verdict(self, end: End) -> Verdict:
        """Say the end until the gateway answers it."""
        self.link.push(end, urgent=True)
        while True:
            word = await self._next_word(ASK_AGAIN_S)
            match word:
                case Accepted() | Stop() | GatewayGone():
                    return word
                case None:
                    self.link.push(end, urgent=True)
                case _:
                    pass

    async def _next_word(self, patience_s: float) -> Go | Park | Settle | Verdict | None:
        """The next word, or None after ``patience_s``."""
        if self.link.lost:
            return GatewayGone()
        return await self._words.next(patience_s)

    def _started(self) -> Started:
        return Started(
            attempt_id=self.attempt_id,
            request_id=self.request.request_id,
            begun=self.begun,
            continues=self._engine.details.continues,
        )

    def _push_content(self, data: bytes, *, urgent: bool) -> None:
        self._pieces += 1
        self.link.push(Content(attempt_id=self.attempt_id, number=self._pieces, data=data), urgent=urgent)
        crash.point("after_piece")

    def _step(self, name: str) -> None:
        if self.span is not None:
            self.span.step(name)

    @property
    def _ids(self) -> dict[str, Any]:
        return {
            "request_id": self.request.request_id,
            "attempt_id": self.attempt_id,
            "trace_id": None if self.span is None else self.span.trace_id,
        }

    def _interrupt(self, why: Cancelled | Interrupted) -> None:
        if self._stopped is None and self._working is not None:
            self._stopped = why
            self._working.cancel()


def _reason(word: Stop | GatewayGone) -> StopReason | Literal["gateway_gone"]:
    return word.reason if isinstance(word, Stop) else "gateway_gone"


def _pieces(data: bytes) -> Iterator[bytes]:
    """Parts of at most :data:`PIECE_BYTES_MAX`, of whole lines unless one is longer: a piece's lines are events."""
    begin = 0
    while begin < len(data):
        end = begin + PIECE_BYTES_MAX
        if end < len(data):
            end = data.rfind(b"\n", begin, end) + 1 or end
        yield data[begin:end]
        begin = end
