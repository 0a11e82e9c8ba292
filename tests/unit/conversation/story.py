"""A conversation in short words, for tests that tell what happens to one request in the order of time."""

from __future__ import annotations

from gateway.requests.conversation import Conversation
from gateway.requests.decisions import Break, Complete, Decision, Probe, State, Tell
from wire.control import Accepted, AreYouAlive, Go, Park, Settle, Stop, StopReason, Word
from wire.errors import EngineDied, ErrorBody
from wire.piece import Alive, Content, Failed, Finished, Settled, Started
from wire.usage import Usage

REQUEST = "req_1"
NOW = 1_000_000
DEADLINE = NOW + 60_000
CHARGE = b'{"id":"charge-req_1"}'
USAGE = Usage(prompt_tokens=1, completion_tokens=2)
ERROR = ErrorBody(code="upstream_refused", message="No.")
DIED = EngineDied().body()
COMPLETE = Complete("stop", USAGE)


class Story:
    """A conversation with short words: attempt ``a1`` runs on node ``node-a1``."""

    def __init__(self, *, plain: bool = False, keep_text: bool = False) -> None:
        self.conversation = Conversation(REQUEST, DEADLINE, plain=plain, keep_text=keep_text)
        self.now = NOW

    @property
    def state(self) -> State:
        return self.conversation.state

    def starts(self, attempt: str, *, begun: bool = False, continues: bool = False) -> list[Decision]:
        piece = Started(attempt_id=attempt, request_id=REQUEST, begun=begun, continues=continues)
        return self.conversation.started(node(attempt), piece, self.now)

    def writes(self, attempt: str, number: int, data: bytes = b"text\n") -> list[Decision]:
        return self.conversation.content(node(attempt), Content(attempt_id=attempt, number=number, data=data))

    def finishes(self, attempt: str, number: int = 1, *, cancelled: bool = False) -> list[Decision]:
        piece = Finished(
            attempt_id=attempt, number=number, usage=USAGE, charge=CHARGE, finish_reason="stop", cancelled=cancelled
        )
        return self.conversation.finished(node(attempt), piece)

    def fails(self, attempt: str, *, again: bool = False, error: ErrorBody = ERROR) -> list[Decision]:
        piece = Failed(attempt_id=attempt, number=1, error=error, again=again)
        return self.conversation.failed(node(attempt), piece, self.now)

    def begins(self, attempt: str, *, continues: bool = False) -> None:
        """It asks, is told ``go``, and says that its engine works."""
        assert isinstance(told(self.starts(attempt, continues=continues))[0], Go)
        assert self.starts(attempt, begun=True, continues=continues) == []

    def answers(self, attempt: str, *, holding: bool) -> list[Decision]:
        return self.conversation.alive(Alive(attempt_id=attempt, holding=holding), self.now)

    def settles(self, attempt: str) -> list[Decision]:
        return self.conversation.settled(Settled(attempt_id=attempt, request_id=REQUEST))

    def is_silent(self, attempt: str) -> list[Decision]:
        return self.conversation.unanswered(attempt, self.now)


def node(attempt: str) -> str:
    return f"node-{attempt}"


def go(attempt: str, number: int = 1, *, alone: bool = False) -> Tell:
    return Tell(node(attempt), Go(attempt_id=attempt, number=number, remaining_ms=60_000, alone=alone))


def stop(attempt: str, reason: StopReason) -> Tell:
    return Tell(node(attempt), Stop(attempt_id=attempt, reason=reason))


def park(attempt: str) -> Tell:
    return Tell(node(attempt), Park(attempt_id=attempt))


def accepted(attempt: str) -> Tell:
    return Tell(node(attempt), Accepted(attempt_id=attempt))


def settle(attempt: str) -> Tell:
    return Tell(node(attempt), Settle(attempt_id=attempt, charge=CHARGE))


def probe(attempt: str) -> list[Decision]:
    return [Tell(node(attempt), AreYouAlive(attempt_id=attempt)), Probe(attempt)]


def told(decisions: list[Decision]) -> list[Word]:
    return [decision.word for decision in decisions if isinstance(decision, Tell)]


def breaks(decisions: list[Decision]) -> list[str]:
    return [decision.error.code for decision in decisions if isinstance(decision, Break)]


def third_death(story: Story) -> list[Decision]:
    """``a1`` has it, and is followed by ``a2`` and ``a3``. What is decided when all three are silent; ``a4`` waits."""
    story.starts("a2")
    assert go("a2", number=2) in story.is_silent("a1")
    story.starts("a3")
    assert go("a3", number=3, alone=True) in story.is_silent("a2")
    assert story.starts("a3", begun=True) == []
    story.starts("a4")
    return story.is_silent("a3")
