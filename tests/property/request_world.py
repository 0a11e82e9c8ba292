"""What stands around one conversation: queue, nodes and client. What must never happen is asserted when it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.requests.conversation import SILENT_DEATHS_MAX, Conversation
from gateway.requests.decisions import Break, Complete, Decision, Forget, Probe, Show, Tell, Verify
from tests.property.stepwise_node import DEADLINE, REQUEST, TEXTS, Phase, SimAttempt, SimEngine, SimNode
from wire.control import Accepted, AreYouAlive, Go, Park, Settle, Stop, Word
from wire.piece import Alive, AttemptFrame, Content, Failed, Finished, Settled, Started


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


class RequestWorld:
    """How the world is, what was seen of it, and how decisions are carried out."""

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

    @property
    def waits(self) -> bool:
        return not self.acknowledged and self.owner is None

    def living(self, *phases: Phase) -> list[SimAttempt]:
        return [
            attempt
            for attempt in self.attempts
            if attempt.node.alive and attempt.phase != "gone" and (not phases or attempt.phase in phases)
        ]

    def _hand_over(self, node: SimNode, *, begun: bool, engine: SimEngine) -> None:
        attempt = SimAttempt(f"att_{len(self.attempts)}", node, begun, engine=engine if self.plain else None)
        self.attempts.append(attempt)
        node.attempts[attempt.attempt_id] = attempt
        self.owner = attempt
        if begun:
            attempt.begin(None)
        else:
            node.push(attempt.started())

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
        """As :meth:`gateway.requests.conversations.Conversations.frame` does it."""
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
