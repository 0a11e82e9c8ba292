"""A node that takes one step at a time, when a test says so. It settles by the real table."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from hypothesis import strategies as st

from wire.control import Accepted, AreYouAlive, Go, Park, Settle, Stop, Word
from wire.errors import ErrorBody
from wire.piece import Alive, AttemptFrame, Content, Failed, Finished, Started
from wire.usage import Usage
from workernode.outcome import Answered, Cancelled, Interrupted, Later, Outcome, Refused
from workernode.settling import ending, settlement

if TYPE_CHECKING:
    from workernode.settling import Settlement

REQUEST = "req_1"
DEADLINE = 10_000
ERROR = ErrorBody(code="upstream_refused", message="No.")
Phase = Literal["waiting", "working", "ended", "settling", "gone"]
TEXTS = {"same": "The quick brown fox", "other": "The quiet", "shorter": "The q"}
USAGE = {"completion_tokens": 5}
OUTCOMES: dict[str, Outcome] = {
    "answered": Answered(Usage()),
    "refused": Refused(ERROR),
    "later": Later(ERROR),
    "interrupted": Interrupted(),
}


@dataclass
class SimAttempt:
    """What :class:`workernode.attempt.Attempt` is, one step at a time."""

    attempt_id: str
    node: SimNode = field(repr=False)
    begun: bool
    phase: Phase = "waiting"
    pieces: int = 0
    outcome: Outcome | None = None
    end: Finished | Failed | None = None
    settlement: Settlement | None = None
    charge: bytes = b""
    parked: bool = False
    engine: SimEngine | None = None
    """None: the answer is no plain text."""

    def started(self) -> Started:
        continues = self.engine is not None and self.engine.continues
        return Started(attempt_id=self.attempt_id, request_id=REQUEST, begun=self.begun, continues=continues)

    def begin(self, prefix: str | None, *, alone: bool = False) -> None:
        """The engine gets the request. Whoever had to wait says so before: its death counts from then on."""
        unasked, self.begun, self.phase = self.begun, True, "working"
        if self.parked or alone or unasked:
            self.node.push(self.started())
        if self.engine is not None:
            self.engine.begin(self.attempt_id, prefix)

    def write(self) -> None:
        if self.engine is None:
            data = f"{self.attempt_id} {self.pieces + 1}".encode()
        elif not (data := self.engine.next()):
            return
        self.pieces += 1
        self.node.push(Content(attempt_id=self.attempt_id, number=self.pieces, data=data))

    def stop(self, outcome: Outcome) -> None:
        """The work is over: say so where the gateway does not know, else settle."""
        self.outcome = outcome
        if isinstance(outcome, Answered) and self.engine is not None:
            while self.engine.left:
                self.write()
        said = ending(outcome, begun=self.begun)
        if said is None:
            if not self.begun and outcome == Cancelled("again", Usage()):
                self.node.push(Alive(attempt_id=self.attempt_id, holding=False))
            self.settle(None)
            return
        number = self.pieces + 1
        if said.error is not None:
            self.end = Failed(attempt_id=self.attempt_id, number=number, error=said.error, again=said.again)
        else:
            self.charge = self.attempt_id.encode()
            self.end = Finished(
                attempt_id=self.attempt_id,
                number=number,
                usage=Usage(),
                charge=self.charge,
                cancelled=said.cancelled,
            )
        self.phase = "ended"
        self.node.push(self.end)

    def settle(self, verdict: Accepted | Stop | None) -> None:
        assert self.outcome is not None
        self.settlement = settlement(self.outcome, verdict, begun=self.begun)
        self.phase = "settling"

    def hear(self, word: Word) -> None:
        match self.phase, word:
            case "waiting", Go(prefix=prefix, alone=alone):
                self.begin(prefix, alone=alone)
            case "waiting", Park():
                self.parked = True
            case "waiting", Settle(charge=charge):
                self.charge, self.outcome = charge, Answered(Usage())
                self.settle(Accepted(attempt_id=self.attempt_id))
            case (("waiting" | "working"), Stop(reason=reason)):
                self.stop(Cancelled(reason, Usage()))
            case "ended", (Accepted() | Stop()):
                self.settle(word)
            case _:
                pass

    def ask_again(self) -> None:
        if self.phase == "waiting":
            self.node.push(self.started())
        elif self.phase == "ended":
            assert self.end is not None
            self.node.push(self.end)


@dataclass
class SimEngine:
    """Says its text in chunks of its own size, several of them in a piece."""

    text: str
    chunk_chars: int = 4
    chunks_per_piece: int = 1
    continues: bool = False
    left: list[bytes] = field(default_factory=list, repr=False)

    def begin(self, by: str, prefix: str | None) -> None:
        said = prefix or ""
        own = self.text.removeprefix(said) if self.text.startswith(said) else " and so on"
        self.text = said + own
        parts = [own[start : start + self.chunk_chars] for start in range(0, len(own), self.chunk_chars)]
        choices: list[dict[str, Any]] = [
            {"delta": {"role": "assistant", "content": ""}},
            *({"delta": {"content": part}} for part in parts),
            {"delta": {}, "finish_reason": "stop"},
        ]
        chunks: list[dict[str, Any]] = [{"by": by, "choices": [{"index": 0, **choice}]} for choice in choices]
        filters = {"by": by, "choices": [], "filters": []}
        self.left = [msgspec.json.encode(chunk) for chunk in [filters, *chunks, filters | {"usage": USAGE}]]

    def next(self) -> bytes:
        """The next piece."""
        taken, self.left = self.left[: self.chunks_per_piece], self.left[self.chunks_per_piece :]
        return b"".join(line + b"\n" for line in taken)


engines = st.builds(
    SimEngine,
    st.sampled_from([*[TEXTS["same"]] * 6, *TEXTS.values()]),
    st.integers(1, 7),
    st.integers(1, 3),
    st.booleans(),
)


@dataclass
class SimNode:
    """A process that lives or is dead, what it has sent, and what is on its way to it."""

    name: str
    alive: bool = True
    attempts: dict[str, SimAttempt] = field(default_factory=dict, repr=False)
    outbox: deque[AttemptFrame] = field(default_factory=deque, repr=False)
    sent: list[AttemptFrame] = field(default_factory=list, repr=False)
    inbox: deque[Word] = field(default_factory=deque, repr=False)

    def push(self, frame: AttemptFrame) -> None:
        self.outbox.append(frame)

    def hear(self, word: Word) -> None:
        attempt_id: str = word.attempt_id  # type: ignore[union-attr]
        attempt = self.attempts.get(attempt_id)
        if isinstance(word, AreYouAlive):
            self.push(Alive(attempt_id=attempt_id, holding=attempt is not None))
        elif attempt is not None:
            attempt.hear(word)
