"""One request, its gateway and any number of nodes, in any order of events, with a model of the queue beside them.

The nodes here follow :mod:`workernode.attempt` and use the real settling table; the gateway is the real conversation.
Words to nodes may be lost, frames may be handed on again, deliveries may move while their holder lives, nodes die
between any two steps, and one that lives is taken for dead. Whatever happened: when the weather turns fair, the request
comes to its one end.

An answer is either opaque, or a stream of plain text, which other attempts may go on with: engines then say the same
text in other chunks, or another one, or continue after what they are told was shown.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.requests.conversation import Conversation
from gateway.requests.decisions import Complete
from tests.property.request_world import RequestWorld
from tests.property.stepwise_node import DEADLINE, OUTCOMES, REQUEST, TEXTS, SimEngine, SimNode, engines
from wire.control import Stop
from wire.errors import AnswerTooLarge
from wire.piece import Content, Settled

NODES_MAX = 12


class RequestMachine(RequestWorld, RuleBasedStateMachine):
    """Any story of it."""

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

    def deliver_one_more(self) -> None:
        node = SimNode(f"node-{len(self.nodes)}")
        self.nodes.append(node)
        self._hand_over(node, begun=False, engine=SimEngine(TEXTS["same"]))


RequestMachine.TestCase.settings = settings(max_examples=500, stateful_step_count=30)
TestRequest: Any = RequestMachine.TestCase
