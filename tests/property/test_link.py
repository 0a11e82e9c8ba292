"""The link over a network that loses, doubles and reorders messages and acknowledgements, on a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wire.link import RESEND_AFTER_S, LinkReceiver, LinkSender

Message = tuple[int, list[msgspec.Raw]]
BUDGET = 400
PER_MESSAGE = 120


def frame(number: int, size: int) -> bytes:
    """A frame that tells its number."""
    return b"%06d" % number + b"." * size


@dataclass
class Ack:
    """An acknowledgement under way."""

    through: int
    missing_until: int


class LinkMachine(RuleBasedStateMachine):
    """Anything may happen to what is under way; the two ends must not notice more than a delay."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sender = LinkSender(unacked_bytes_max=BUDGET, message_bytes_max=PER_MESSAGE)
        self.receiver = LinkReceiver()
        self.pushed: list[bytes] = []
        self.passed_on: list[bytes] = []
        self.messages: list[Message] = []
        self.acks: list[Ack] = []
        self.last_push = 0

    @initialize(small=st.sampled_from(["", "bytes", "frames"]))
    def choose_room(self, small: str) -> None:
        if small == "bytes":
            self.receiver = LinkReceiver(held_bytes_max=60)
        elif small == "frames":
            self.receiver = LinkReceiver(held_frames_max=2)

    @precondition(lambda self: self.sender.open)
    @rule(sizes=st.lists(st.integers(0, 150), min_size=1, max_size=5))
    def push(self, sizes: list[int]) -> None:
        for size in sizes:
            if not self.sender.open:
                return
            data = frame(len(self.pushed) + 1, size)
            assert self.sender.push(data) == len(self.pushed) + 1
            self.pushed.append(data)
            self.last_push = len(data)

    @rule()
    def take(self) -> None:
        for message in self.sender.take(self.now):
            size = sum(len(bytes(raw)) for raw in message[1])
            assert message[1]
            assert size <= PER_MESSAGE or len(message[1]) == 1
            self.messages.append(message)

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), again=st.booleans())
    def arrive(self, data: st.DataObject, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.messages) - 1))
        self._receive(self.messages[index] if again else self.messages.pop(index))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def lose_a_message(self, data: st.DataObject) -> None:
        self.messages.pop(data.draw(st.integers(0, len(self.messages) - 1)))

    @rule()
    def acknowledge(self) -> None:
        self.acks.append(Ack(self.receiver.through, self.receiver.missing_until))

    @precondition(lambda self: self.acks)
    @rule(data=st.data(), again=st.booleans())
    def ack_arrives(self, data: st.DataObject, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.acks) - 1))
        self._hear(self.acks[index] if again else self.acks.pop(index))

    @precondition(lambda self: self.acks)
    @rule(data=st.data())
    def lose_an_ack(self, data: st.DataObject) -> None:
        self.acks.pop(data.draw(st.integers(0, len(self.acks) - 1)))

    @rule(missing=st.integers(-(2**63), 2**63))
    def absurd_ack(self, missing: int) -> None:
        """What nobody acknowledged cannot be acknowledged by an old number, whatever gap it names."""
        self._hear(Ack(-1, missing))
        self._hear(Ack(self.receiver.through, missing))

    @invariant()
    def every_frame_was_passed_on_once_and_in_order(self) -> None:
        assert self.passed_on == self.pushed[: len(self.passed_on)]
        assert self.receiver.through == len(self.passed_on)

    @invariant()
    def nothing_is_forgotten_before_it_has_arrived(self) -> None:
        assert self.sender.acked_through <= self.receiver.through
        assert self.sender.unacked_bytes == sum(map(len, self.pushed[self.sender.acked_through :]))

    @invariant()
    def what_waits_is_bounded(self) -> None:
        assert self.sender.unacked_bytes < BUDGET + max(self.last_push, 1)

    def teardown(self) -> None:
        """However it went: once nothing is lost any more, everything arrives and is acknowledged, soon."""
        for _ in range(2 * len(self.pushed) + 4):
            if self.sender.idle:
                break
            wake = self.sender.wake_at()
            if not self.sender.has_to_send:
                assert wake is not None
                self.now = max(self.now, wake)
            for message in self.sender.take(self.now):
                self._receive(message)
            self._hear(Ack(self.receiver.through, self.receiver.missing_until))
        assert self.passed_on == self.pushed
        assert self.sender.idle
        assert self.sender.unacked_bytes == 0
        assert self.sender.wake_at() is None
        assert not self.sender.has_to_send
        assert "held=0 bytes=0" in repr(self.receiver)

    def _receive(self, message: Message) -> None:
        self.passed_on += [bytes(raw) for raw in self.receiver.receive(*message)]

    def _hear(self, ack: Ack) -> None:
        self.sender.acked(ack.through, ack.missing_until, self.now)


LinkMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestLink: Any = LinkMachine.TestCase


@given(
    counts=st.lists(st.integers(0, 6), max_size=30),
    delay=st.integers(0, 4),
    gap_s=st.floats(0, 0.09),
)
def test_nothing_is_resent_while_nothing_is_lost(counts: list[int], delay: int, gap_s: float) -> None:
    """Acknowledgements come late, several rounds behind, but within the time after which silence means loss."""
    sender, receiver, now, pushed = LinkSender(), LinkReceiver(), 0.0, 0
    acks: list[tuple[int, int]] = []
    for count in [*counts, *([0] * 5)]:
        for _ in range(count):
            pushed += 1
            sender.push(frame(pushed, 10))
        for message in sender.take(now):
            receiver.receive(*message)
        acks.append((receiver.through, receiver.missing_until))
        if len(acks) > delay:
            sender.acked(*acks.pop(0), now)
        now += gap_s
    assert sender.resent == 0
    assert receiver.through == pushed


@given(
    lost=st.sets(st.integers(1, 60)),
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    repeats=st.integers(1, 4),
)
def test_a_lost_frame_is_resent_about_once_however_often_its_gap_is_named(
    lost: set[int], batches: list[int], repeats: int
) -> None:
    """First transmissions of some frames are lost; every message is acknowledged several times at once."""
    sender, receiver, now, pushed = LinkSender(), LinkReceiver(), 0.0, 0
    sent: set[int] = set()
    missed = 0
    for batch in [*batches, *([0] * 80)]:
        for _ in range(batch):
            pushed += 1
            sender.push(frame(pushed, 10))
        for first, frames in sender.take(now):
            for number, raw in enumerate(frames, first):
                if number in lost and number not in sent:
                    missed += 1
                else:
                    receiver.receive(number, [raw])
                sent.add(number)
            for _ in range(repeats):
                sender.acked(receiver.through, receiver.missing_until, now)
        now += 0.01
        if sender.idle and not batch:
            break
        if not sender.has_to_send and not batch:
            now = max(now, sender.wake_at() or now)
    assert sender.idle
    assert receiver.through == pushed
    # A lost frame costs one resend; the last ones, which leave no gap, cost those that went with them too.
    assert sender.resent <= missed + max(batches)


@given(arrivals=st.lists(st.integers(1, 30), max_size=60))
def test_the_gap_that_is_named_ends_at_the_first_frame_beyond_it(arrivals: list[int]) -> None:
    receiver, arrived = LinkReceiver(), {0}
    for number in arrivals:
        receiver.receive(number, [msgspec.Raw(frame(number, 1))])
        arrived.add(number)
        through = next(known for known in range(32) if known + 1 not in arrived)
        assert receiver.through == through
        assert receiver.missing_until == min((known for known in arrived if known > through), default=0)


class Gateway:
    """What :class:`gateway.requests.line.Lines` knows of one node, until it forgets it."""

    def __init__(self) -> None:
        self.passed_on: list[bytes] = []
        self.forget()

    def forget(self) -> None:
        self.line, self.receiver = 0, LinkReceiver()

    def take(self, line: int, message: Message) -> None:
        if line > self.line:
            self.line, self.receiver = line, LinkReceiver()
        if line == self.line:
            self.passed_on += [bytes(raw) for raw in self.receiver.receive(*message)]


class Node:
    """What :class:`workernode.uplink.Uplink` does with acknowledgements."""

    def __init__(self) -> None:
        self.sender = LinkSender()
        self.line = 1
        self.pushed: list[bytes] = []

    def push(self, count: int) -> None:
        for _ in range(count):
            self.pushed.append(frame(len(self.pushed) + 1, 10))
            self.sender.push(self.pushed[-1])

    def hear(self, line: int, ack: Ack, now: float) -> None:
        if line != self.line:
            return
        if self.sender.forgotten(ack.through, ack.missing_until):
            self.line += 1
            self.sender.start_over()
        else:
            self.sender.acked(ack.through, ack.missing_until, now)


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 4),  # frames pushed
            st.sampled_from(["arrives", "arrives", "lost", "ack lost"]),
            st.sampled_from(["", "", "", "forgets", "old ack"]),
        ),
        max_size=30,
    )
)
@settings(max_examples=300)
def test_a_line_that_its_gateway_has_forgotten_is_begun_anew_and_nothing_is_lost(
    steps: list[tuple[int, str, str]],
) -> None:
    """What was passed on but not acknowledged may be passed on again: pieces have numbers of their own."""
    node, gateway, now = Node(), Gateway(), 0.0
    acks: list[tuple[int, Ack]] = [(1, Ack(0, 0))]
    fair = [(0, "arrives", "")] * 8
    for count, weather, event in [*steps, *fair]:
        now += RESEND_AFTER_S
        node.push(count)
        for message in node.sender.take(now):
            if weather != "lost":
                gateway.take(node.line, message)
        if gateway.line:
            acks.append((gateway.line, Ack(gateway.receiver.through, gateway.receiver.missing_until)))
            if weather == "arrives":
                node.hear(*acks[-1], now)
        if event == "forgets":
            gateway.forget()
        elif event == "old ack":
            node.hear(*acks[len(acks) // 2], now)
    assert node.sender.idle
    numbers = [int(data[:6]) for data in gateway.passed_on]
    assert sorted(set(numbers)) == list(range(1, len(node.pushed) + 1))
    furthest = 0
    for number in numbers:
        assert number <= furthest + 1, "a frame was passed on before one in front of it"
        furthest = max(furthest, number)
    if all(event != "forgets" for *_, event in steps):
        assert node.line <= 1 + sum(event == "old ack" for *_, event in steps)


@given(at=st.floats(0, 1e9))
def test_the_moment_told_is_the_moment_of_resending_however_numbers_round(at: float) -> None:
    sender = LinkSender()
    sender.push(frame(1, 10))
    sender.take(at)
    wake = sender.wake_at()
    assert wake is not None
    assert sender.take(wake)
