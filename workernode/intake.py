"""When this node takes work: it is not paused, its upstream is well, and the pace allows it. And how that shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from process.identity import now_ms
from process.lifecycle import Tasks
from process.logging import Log
from workernode.condition import TROUBLE_EVENTS, TRY_AGAIN_S_MIN, Better, Condition, Worse
from workernode.gate import Gate

if TYPE_CHECKING:
    from wire.event import NodeEventType
    from wire.presence import NodeState
    from workernode.heartbeat import Heartbeat
    from workernode.outcome import Outcome
    from workernode.record import Recorder
    from workernode.remote.pace import CredentialPace

log = Log("node")

KEY_TROUBLES = ("authentication_failed", "quota_exhausted")
LIMITED = "The provider of this model limits the rate of requests. The node goes on by itself."
PAUSED = "Paused by an operator."
SHIFT_MS = 500
"""A limit that moves by less is no change to tell."""


class Intake:
    """Holds the gate. Of a node that is leaving it shows nothing any more."""

    def __init__(self, recorder: Recorder, pace: CredentialPace | None = None) -> None:
        self.gate = Gate(pace)
        self._pace = pace
        self._recorder = recorder
        self._condition = Condition()
        self._worse: Worse | None = None
        self._worse_until_ms = 0
        self._limited_until_ms: int | None = None
        self._engine: tuple[NodeState, str | None] = ("ready", None)
        self._paused = False
        self._pause_sentence = PAUSED
        self._leaving = False
        self._heartbeat: Heartbeat | None = None
        self._try_again: asyncio.TimerHandle | None = None
        self._tasks = Tasks(log)

    def __repr__(self) -> str:
        return f"<Intake paused={self._paused} {self._condition!r} {self.gate!r}>"

    def start(self, heartbeat: Heartbeat) -> None:
        """Take work."""
        self._heartbeat = heartbeat
        if self._pace is not None:
            self._pace.changed = self._look
        self._go_on()

    def leave(self) -> None:
        """Take no more; whoever waits at the gate shall see it."""
        self._leaving = True
        self.gate.dissolve()

    async def aclose(self) -> None:
        """Stop the timers."""
        self._leaving = True
        if self._try_again is not None:
            self._try_again.cancel()
        self.gate.close()
        await self._tasks.aclose()

    def pause(self, sentence: str | None = None) -> None:
        """An operator wants no new work to be taken; ``sentence`` says why."""
        self._paused, self._pause_sentence = True, sentence or PAUSED
        self.gate.close()
        self._show()

    def resume(self) -> None:
        """Work may be taken again."""
        was_paused, self._paused = self._paused, False
        if was_paused and self._condition.trouble is not None:
            self._try_in(0)  # what came of the trouble meanwhile, nobody has tried
        self._go_on()

    @property
    def has_engine(self) -> bool:
        """Whether the engine is ready, by what it last told."""
        return self._engine[0] == "ready"

    def engine_is(self, state: NodeState, sentence: str | None = None) -> None:
        """An engine that knows says how it is: work is taken while it is ``ready``."""
        self._engine = (state, sentence)
        if state != "ready":
            self.gate.close()
        self._go_on()

    def warned(self, credential: str, until_ms: int) -> None:
        """An operator says that a credential is limited until then."""
        if self._pace is not None:
            self._pace.warned(credential, until_ms)

    def judge(self, outcome: Outcome | None, *, trying: bool) -> None:
        """Stop taking work while the upstream is in trouble, and take it again when it is well."""
        change = self._condition.after(outcome, trying=trying) if outcome is not None else None
        match change:
            case Worse(state, sentence, again_s, news, said):
                self.gate.close()
                self._try_in(again_s)
                if news:
                    told = f'{sentence} It says: "{said}"' if said else sentence
                    log.warning(told, action=state, again_s=round(again_s, 1))
                    self._tell(TROUBLE_EVENTS[state], told)
                self._worse, self._worse_until_ms = change, now_ms() + round(again_s * 1000)
                self._show()
            case Better(sentence):
                log.info(sentence, action="recovered")
                self._tell("node.recovered", sentence)
                self._worse = None
                if self._try_again is not None:
                    self._try_again.cancel()
                self._go_on()
            case None:
                if trying and self._condition.trouble is not None:
                    # Nothing was learnt: it had no say in it, or is left alone for its limits.
                    self._try_in(max(TRY_AGAIN_S_MIN, self.gate.pace.held_s or 0.0))

    def tend(self) -> None:
        """To be called about every second."""
        if self._pace is None:
            return
        if self._pace.renew() and self._condition.trouble in KEY_TROUBLES:
            self._try_in(0)
        match self._pace.tick():
            case "limited":
                log.warning(LIMITED, action="rate_limited", nodes=self._pace.nodes)
                self._tell("node.rate_limited", LIMITED, self._limited_until_ms)
            case "recovered":
                sentence = "The provider takes requests again."
                log.info(sentence, action="recovered")
                self._tell("node.recovered", sentence)
            case None:
                pass
        self._look()

    def _go_on(self) -> None:
        if not self._paused and self._condition.trouble is None and self.has_engine:
            self.gate.open()
        self._show()

    def _try_in(self, seconds: float) -> None:
        if self._try_again is not None:
            self._try_again.cancel()
        self._try_again = asyncio.get_running_loop().call_later(seconds, self._try)

    def _try(self) -> None:
        if not self._paused:
            self.gate.admit_one()

    def _look(self) -> None:
        """The pace has changed, or may have by the time that passed."""
        assert self._pace is not None
        self.gate.look()
        held_s = self._pace.held_s
        until_ms = None if held_s is None else now_ms() + round(held_s * 1000)
        before = self._limited_until_ms
        if (until_ms is None) != (before is None) or (until_ms or 0) > (before or 0) + SHIFT_MS:
            self._limited_until_ms = until_ms
            self._show()

    def _show(self) -> None:
        """Say in which state the node is, and why."""
        if self._heartbeat is None or self._leaving:
            return
        if self._paused:
            self._heartbeat.become("paused", self._pause_sentence)
        elif not self.has_engine:
            self._heartbeat.become(*self._engine)
        elif self._worse is not None:
            self._heartbeat.become(self._worse.state, self._worse.sentence, self._worse_until_ms)
        elif self._limited_until_ms is not None:
            self._heartbeat.become("rate_limited", LIMITED, self._limited_until_ms)
        else:
            self._heartbeat.become("ready")

    def _tell(self, kind: NodeEventType, sentence: str, until_ms: int | None = None) -> None:
        event = self._recorder.node_event(kind, sentence, until_ms=until_ms)
        self._tasks.start(self._recorder.publish(event), kind)
