"""One request, its gateway and any number of nodes, in any order of events, with a model of the queue beside them.

The nodes here follow :mod:`workernode.attempt` and use the real settling table; the gateway is the real conversation.
Words to nodes may be lost, frames may be handed on again, deliveries may move while their holder lives, nodes die
between any two steps, and one that lives is taken for dead. Whatever happened: when the weather turns fair, the request
comes to its one end.

An answer is either opaque, or a stream of plain text, which other attempts may go on with: engines then say the same
text in other chunks, or another one, or continue after what they are told was shown.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.conversation import (
    SILENT_DEATHS_MAX,
    Break,
    Complete,
    Conversation,
    Decision,
    Forget,
    Probe,
    Show,
    Tell,
    Verify,
)
from wire.control import Accepted, AreYouAlive, Go, Park, Settle, Stop, Word
from wire.errors import AnswerTooLarge, ErrorBody
from wire.piece import Alive, AttemptFrame, Content, Failed, Finished, Settled, Started
from wire.usage import Usage
from workernode.outcome import Answered, Cancelled, Interrupted, Later, Outcome, Refused
from workernode.settling import ending, settlement

if TYPE_CHECKING:
    from workernode.settling import Settlement

REQUEST = "req_1"
DEADLINE = 10_000
ERROR = ErrorBody(code="upstream_refused", message="No.")
NODES_MAX = 12
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


@dataclass
class Seen:
    """What the client sees of a stream."""

    text: str = ""
    roles: int = 0
    finishes: int = 0
    usages: int = 0

    def take(self, chunk: dict[str, Any]) -> None:
        assert not self.usages, "a chunk after the usage"
        self.usages += "usage" in chunk
        for choice in chunk["choices"]:
            assert not self.finishes, "a choice after the finish reason"
            delta = choice["delta"]
            self.text += delta.get("content") or ""
            self.roles += "role" in delta
            self.finishes += choice.get("finish_reason") is not None
        assert self.roles <= 1, "it was said twice who speaks"


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


class RequestMachine(RuleBasedStateMachine):
    """The world around one conversation."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation(REQUEST, DEADLINE)
        self.now = 0
        self.nodes: list[SimNode] = []
        self.attempts: list[SimAttempt] = []
        self.owner: SimAttempt | None = None  # whose delivery it is
        self.acknowledged = False
        self.known = True  # until the gateway forgets
        self.told: set[str] = set()  # attempts the gateway has heard of
        self.probes: list[str] = []
        # What came of it
        self.end: Complete | Break | None = None
        self.client_gone = False
        self.shown: list[bytes] = []
        self.authors: set[str] = set()
        self.accepted: set[str] = set()
        self.charges: set[bytes] = set()
        self.dismissed: set[str] = set()
        self.running: str | None = None  # the attempt that may work
        self.parked: set[str] = set()  # attempts that were told to wait
        self.known_begun: set[str] = set()  # attempts whose engines have the request, as far as the gateway can know
        self.dead: set[str] = set()  # nodes whose death while they worked counts
        self.verifying = False
        # A stream of plain text
        self.plain = self.keeps = False
        self.seen = Seen()

    # The queue

    @property
    def waits(self) -> bool:
        return not self.acknowledged and self.owner is None

    @initialize(
        plain=st.booleans(),
        keeps=st.booleans(),
        begun=st.booleans(),
        pieces=st.integers(0, 5),
        second=st.sampled_from(["", "waiting", "waiting", "begun"]),
        then=st.sampled_from(["", "the first dies", "the client goes", "the client goes, the first dies"]),
        all_engines=st.lists(engines, min_size=2, max_size=2),
    )
    def most_stories_begin_like_this(
        self,
        plain: bool,
        keeps: bool,
        begun: bool,
        pieces: int,
        second: str,
        then: str,
        all_engines: list[SimEngine],
    ) -> None:
        """An attempt begins, and perhaps a second one beside it or after it: rules alone seldom get that far."""
        self.plain, self.keeps = plain, plain and keeps
        self.conversation = Conversation(REQUEST, DEADLINE, plain=self.plain, keep_text=self.keeps)
        self.deliver(begun=begun, same=False, engine=all_engines[0])
        self._talk()
        if self.living("working"):
            for _ in range(pieces):
                self.attempts[0].write()
        if second:
            self.owner = None
            self.deliver(begun=second == "begun", same=False, engine=all_engines[1])
            if then == "the first dies":
                self._talk()
                self._kill(self.nodes[0])
                while self.probes:
                    self._judge(0, cut_off=False)
            else:
                self._frame_arrives(self.nodes[1])
            if then.startswith("the client goes"):
                self.gateway_turns("hung_up")
                self._talk()
            if then == "the client goes, the first dies":
                self._kill(self.nodes[0])

    @rule()
    def everything_arrives(self) -> None:
        self._talk()

    @precondition(lambda self: self.waits and len(self.nodes) < NODES_MAX)
    @rule(begun=st.booleans(), same=st.booleans(), engine=engines)
    def deliver(self, begun: bool, same: bool, engine: SimEngine) -> None:
        living = [node for node in self.nodes if node.alive]
        if same and living:
            node = living[-1]
        else:
            node = SimNode(f"node-{len(self.nodes)}")
            self.nodes.append(node)
        self._hand_over(node, begun=begun, engine=engine)

    def _hand_over(self, node: SimNode, *, begun: bool, engine: SimEngine) -> None:
        attempt = SimAttempt(f"att_{len(self.attempts)}", node, begun, engine=engine if self.plain else None)
        self.attempts.append(attempt)
        node.attempts[attempt.attempt_id] = attempt
        self.owner = attempt
        if begun:
            attempt.begin(None)
        else:
            node.push(attempt.started())

    @precondition(lambda self: self.owner is not None)
    @rule()
    def unload(self) -> None:
        """The topic moves to another broker: what was delivered is delivered again, while its holder lives."""
        self.owner = None

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def node_dies(self, data: st.DataObject) -> None:
        self._kill(data.draw(st.sampled_from(self.living())).node)

    # What nodes do

    def living(self, *phases: Phase) -> list[SimAttempt]:
        return [
            attempt
            for attempt in self.attempts
            if attempt.node.alive and attempt.phase != "gone" and (not phases or attempt.phase in phases)
        ]

    @precondition(lambda self: self.living("working"))
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.living("working"))).write()

    @precondition(lambda self: self.living("working"))
    @rule(data=st.data(), outcome=st.sampled_from(list(OUTCOMES)))
    def end_work(self, data: st.DataObject, outcome: str) -> None:
        data.draw(st.sampled_from(self.living("working"))).stop(OUTCOMES[outcome])

    @precondition(lambda self: self.living("waiting", "ended"))
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.living("waiting", "ended"))).ask_again()

    @precondition(lambda self: self.living("waiting"))
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.living("waiting")))
        attempt.hear(Stop(attempt_id=attempt.attempt_id, reason="again"))

    @precondition(lambda self: self.living("settling"))
    @rule(data=st.data(), dies=st.booleans())
    def settle(self, data: st.DataObject, dies: bool) -> None:
        self._settle(data.draw(st.sampled_from(self.living("settling"))), dies=dies)

    # What the network does

    def speaking(self) -> list[SimNode]:
        return [node for node in self.nodes if node.outbox]

    def hearing(self) -> list[SimNode]:
        return [node for node in self.nodes if node.inbox and node.alive]

    @precondition(lambda self: self.speaking())
    @rule(data=st.data(), frames=st.integers(1, 4))
    def frames_arrive(self, data: st.DataObject, frames: int) -> None:
        node = data.draw(st.sampled_from(self.speaking()))
        for _ in range(min(frames, len(node.outbox))):
            self._frame_arrives(node)

    @precondition(lambda self: any(node.sent for node in self.nodes))
    @rule(data=st.data())
    def frame_is_handed_on_again(self, data: st.DataObject) -> None:
        """The acknowledgement was lost, so the link sends it again. Contents are not handed on twice."""
        node = data.draw(st.sampled_from([node for node in self.nodes if node.sent]))
        frame = data.draw(st.sampled_from(node.sent))
        if not isinstance(frame, Content | Settled):
            self._hear(node, frame)

    @precondition(lambda self: self.hearing())
    @rule(data=st.data(), lost=st.booleans())
    def word_arrives(self, data: st.DataObject, lost: bool) -> None:
        node = data.draw(st.sampled_from(self.hearing()))
        word = node.inbox.popleft()
        if not lost:
            node.hear(word)

    # What the gateway does

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), cut_off=st.booleans())
    def time_to_answer_is_over(self, data: st.DataObject, cut_off: bool) -> None:
        self._judge(data.draw(st.integers(0, len(self.probes) - 1)), cut_off=cut_off)

    @precondition(lambda self: self.verifying)
    @rule()
    def deaths_are_certain(self) -> None:
        self._verify()

    @precondition(lambda self: self.known)
    @rule(how=st.sampled_from([*["stop_again"] * 5, "hung_up", "hung_up", "expired", "broken"]))
    def gateway_turns(self, how: str) -> None:
        if how == "stop_again":
            return self._carry_out(self.conversation.stop_again())
        if how == "hung_up":
            self.client_gone = self.client_gone or self.end is None
            return self._carry_out(self.conversation.hung_up())
        self.now = DEADLINE
        return self._carry_out(
            self.conversation.expired() if how == "expired" else self.conversation.broken(AnswerTooLarge())
        )

    # The end of the story

    def teardown(self) -> None:
        """Nothing is lost any more, nobody dies any more, and whoever works answers."""
        for _ in range(60):
            if self.acknowledged and not self.living() and not self.speaking():
                break
            self._fair_round()
        assert self.acknowledged, "the request is stuck"
        assert not self.living(), "an attempt waits for ever"
        assert self.client_gone or self.end is not None, "the client waits for ever"
        assert self.conversation.state != "open" or self.client_gone
        assert len(self.charges) <= 1
        if isinstance(self.end, Complete):
            assert self.charges, "an answer was given and never charged"
        if self.accepted:
            assert self.charges, "an end was accepted and never charged"

    def _fair_round(self) -> None:
        if self.waits:
            self.deliver_one_more()
        self._talk()
        while self.probes:
            self._judge(0, cut_off=False)
        if self.verifying:
            self._verify()
        for attempt in self.living("working"):
            attempt.write()
            attempt.stop(OUTCOMES["answered"])
        for attempt in self.living("settling"):
            self._settle(attempt, dies=False)
        for attempt in self.living("waiting", "ended"):
            attempt.ask_again()

    def _talk(self) -> None:
        """Whatever is under way arrives."""
        for node in self.nodes:
            while node.outbox:
                self._frame_arrives(node)
            while node.inbox:
                word = node.inbox.popleft()
                if node.alive:
                    node.hear(word)
            while node.outbox:
                self._frame_arrives(node)

    def deliver_one_more(self) -> None:
        node = SimNode(f"node-{len(self.nodes)}")
        self.nodes.append(node)
        self._hand_over(node, begun=False, engine=SimEngine(TEXTS["same"]))

    # How it is carried out

    def _kill(self, node: SimNode) -> None:
        node.alive = False
        node.inbox.clear()
        for attempt in node.attempts.values():
            attempt.phase = "gone"
            if self.owner is attempt:
                self.owner = None
        node.attempts.clear()

    def _settle(self, attempt: SimAttempt, *, dies: bool) -> None:
        result = attempt.settlement
        assert result is not None
        if result.bill == "charge":
            assert attempt.charge
            self.charges.add(attempt.charge)
            assert len(self.charges) == 1, "two different charges"
        if dies:
            self._kill(attempt.node)
            return
        attempt.phase = "gone"
        del attempt.node.attempts[attempt.attempt_id]
        if result.queue == "ack":
            self.acknowledged, self.owner = True, None
            attempt.node.push(Settled(attempt_id=attempt.attempt_id, request_id=REQUEST))
        elif self.owner is attempt:
            self.owner = None

    def _frame_arrives(self, node: SimNode) -> None:
        frame = node.outbox.popleft()
        node.sent.append(frame)
        self._hear(node, frame)

    def _hear(self, node: SimNode, frame: AttemptFrame) -> None:
        """As :meth:`gateway.conversations.Conversations.frame` does it."""
        if not self.known:
            if isinstance(frame, Started | Content | Finished | Failed):
                node.inbox.append(Stop(attempt_id=frame.attempt_id, reason="unknown"))
            return
        match frame:
            case Started():
                self.told.add(frame.attempt_id)
                if frame.begun:
                    self.known_begun.add(frame.attempt_id)
                decisions = self.conversation.started(node.name, frame, self.now)
                self._carry_out(decisions)
                self._was_answered(frame, decisions)
            case Content():
                self._carry_out(self.conversation.content(node.name, frame))
            case Finished():
                decisions = self.conversation.finished(node.name, frame)
                assert decisions, "an end without a word"
                self._carry_out(decisions)
            case Failed():
                decisions = self.conversation.failed(node.name, frame, self.now)
                assert decisions, "an end without a word"
                if frame.again and self.running == frame.attempt_id:
                    self.running = None
                self._carry_out(decisions)
            case Alive():
                if not frame.holding and self.running == frame.attempt_id:
                    self.running = None
                self._carry_out(self.conversation.alive(frame, self.now))
            case _:
                self._carry_out(self.conversation.settled(frame))

    def _was_answered(self, frame: Started, decisions: list[Decision]) -> None:
        """A question is answered at once, unless its holder began by itself or a probe is under way."""
        holder = self.conversation.holder
        if frame.begun and holder is not None and holder[0] == frame.attempt_id and self.running is None:
            self.running = frame.attempt_id
        words = [decision.word for decision in decisions if isinstance(decision, Tell)]
        answered = any(getattr(word, "attempt_id", None) == frame.attempt_id for word in words)
        assert answered or self.probes or (holder is not None and holder[0] == frame.attempt_id and frame.begun)

    def _judge(self, index: int, *, cut_off: bool) -> None:
        attempt_id = self.probes.pop(index)
        attempt = self._attempt(attempt_id)
        if attempt.node.alive and not cut_off:
            while attempt.node.outbox:
                self._frame_arrives(attempt.node)
            self._hear(attempt.node, Alive(attempt_id=attempt_id, holding=attempt.phase != "gone"))
        waits = self.conversation.state == "open"
        decisions = self.conversation.unanswered(attempt_id, self.now)
        if waits and Tell(attempt.node.name, Stop(attempt_id=attempt_id, reason="superseded")) in decisions:
            # Only of holders that said they begin, or were told to as they asked; not of those that had to wait.
            if attempt_id in self.known_begun:
                self.dead.add(attempt.node.name)
            assert self.conversation.dead == self.dead
            assert any(isinstance(decision, Verify) for decision in decisions) == (len(self.dead) >= SILENT_DEATHS_MAX)
        self._carry_out(decisions)

    def _verify(self) -> None:
        self.verifying = False
        waits = self.conversation.state == "open"
        self.dead -= {node.name for node in self.nodes if node.alive}
        decisions = self.conversation.verified({node.name for node in self.nodes if node.alive}, self.now)
        if waits:
            assert (self.conversation.state == "poison") == (len(self.dead) >= SILENT_DEATHS_MAX)
        self._carry_out(decisions)

    def _attempt(self, attempt_id: str) -> SimAttempt:
        return next(attempt for attempt in self.attempts if attempt.attempt_id == attempt_id)

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Tell(name, word):
                    self._tell(name, word)
                case Show(data):
                    assert self.end is None, "text after the end"
                    assert not self.client_gone, "text for a client that has gone"
                    if self.plain:
                        self._shows_plain(data)
                    else:
                        self._shows(data)
                case Complete() | Break():
                    assert self.end is None, "two ends"
                    assert not self.client_gone, "an end for a client that has gone"
                    self.end = decision
                    if isinstance(decision, Complete):
                        self._is_whole()
                    else:
                        self._had_to_break(decision)
                case Probe(attempt_id):
                    self.probes.append(attempt_id)
                case Verify():
                    assert not self.verifying
                    assert self.conversation.holder is None
                    self.verifying = True
                case Forget():
                    self.known = False

    def _shows(self, data: bytes) -> None:
        self.shown.append(data)
        self.authors.add(data.split()[0].decode())
        assert len(self.authors) == 1, "text of two attempts"
        assert not self.authors & self.dismissed, "text of an attempt that is out"

    def _shows_plain(self, data: bytes) -> None:
        for line in data.splitlines():
            chunk = msgspec.json.decode(line)
            assert chunk["by"] not in self.dismissed, "text of an attempt that is out"
            self.authors.add(chunk["by"])
            self.seen.take(chunk)
            engine = self._attempt(chunk["by"]).engine
            assert engine is not None
            assert engine.text.startswith(self.seen.text), "an attempt that says something else was shown"

    def _tell(self, name: str, word: Word) -> None:
        node = next(node for node in self.nodes if node.name == name)
        if node.alive:
            node.inbox.append(word)
        match word:
            case Go(attempt_id=attempt_id, prefix=prefix, alone=alone):
                assert not self.verifying, "go while nobody knows whether it is poison"
                assert alone == (len(self.dead) == SILENT_DEATHS_MAX - 1)
                assert self.conversation.state == "open", "go after the end"
                assert attempt_id not in self.dismissed, "go to an attempt that is out"
                assert self.running in (None, attempt_id), "go to two attempts at once"
                if prefix is not None:
                    engine = self._attempt(attempt_id).engine
                    assert self.keeps, "the text was to be kept by nobody"
                    assert engine is not None
                    assert engine.continues, "an engine that cannot continue shall"
                    assert prefix == self.seen.text or self.running == attempt_id
                if attempt_id not in self.parked and not alone:
                    self.known_begun.add(attempt_id)
                self.running = attempt_id
            case Stop(attempt_id=attempt_id, reason="superseded" | "again"):
                self.dismissed.add(attempt_id)
                if self.running == attempt_id:
                    self.running = None
            case Accepted(attempt_id=attempt_id):
                if isinstance(self._attempt(attempt_id).end, Finished):
                    self.accepted.add(attempt_id)
                    assert len(self.accepted) == 1, "two attempts were accepted"
                    assert attempt_id not in self.dismissed, "an attempt that is out was accepted"
            case Settle(attempt_id=attempt_id):
                assert self.accepted
                assert attempt_id not in self.accepted
            case Park(attempt_id=attempt_id):
                self.parked.add(attempt_id)
            case AreYouAlive() | Stop() | _:
                pass

    def _is_whole(self) -> None:
        """What was shown is all that its one author wrote; of plain text, all that the last one says."""
        holder = self.conversation.holder
        assert holder is not None
        attempt = self._attempt(holder[0])
        if attempt.engine is not None:
            assert self.seen == Seen(attempt.engine.text, roles=1, finishes=1, usages=1)
            return
        for author in self.authors:
            assert author == attempt.attempt_id
            assert self.shown == [f"{author} {number}".encode() for number in range(1, attempt.pieces + 1)]

    def _had_to_break(self, end: Break) -> None:
        """A stream of plain text is not interrupted while all that work on it say the same."""
        texts = {attempt.engine.text for attempt in self.attempts if attempt.engine is not None}
        assert end.error.code != "stream_interrupted" or texts != {TEXTS["same"]}


RequestMachine.TestCase.settings = settings(max_examples=500, stateful_step_count=30, deadline=None)
TestRequest: Any = RequestMachine.TestCase
