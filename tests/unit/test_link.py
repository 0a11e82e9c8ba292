"""Examples of what the two ends of a link do; any others are in ``tests/property/test_link.py``."""

from __future__ import annotations

import msgspec
import pytest

from wire.link import RESEND_AFTER_S, LinkReceiver, LinkSender


def frame(number: int, size: int) -> bytes:
    """A frame that tells its number."""
    return b"%06d" % number + b"." * size


def test_a_receiver_that_knows_the_line_is_never_taken_for_one_that_forgot_it() -> None:
    sender = _three_sent()
    assert not sender.forgotten(0, 3)  # nothing was acknowledged before: a gap at the beginning
    sender.acked(1, 3, 0.1)
    assert not sender.forgotten(0, 0)
    assert not sender.forgotten(1, 3)
    assert not sender.forgotten(3, 0)
    assert sender.forgotten(0, 3)


def test_what_is_not_acknowledged_is_numbered_from_one_on_a_new_line() -> None:
    sender = _three_sent()
    sender.acked(2, 0, 0.1)
    sender.push(frame(4, 10))
    sender.start_over()
    assert sender.has_to_send
    [(first, frames)] = sender.take(0.2)
    assert (first, [bytes(raw) for raw in frames]) == (1, [frame(3, 10), frame(4, 10)])
    assert sender.acked(2, 0, 0.3)
    assert sender.idle
    assert sender.unacked_bytes == 0


def _three_sent() -> LinkSender:
    sender = LinkSender()
    for number in (1, 2, 3):
        sender.push(frame(number, 10))
    sender.take(0.0)
    return sender


def test_a_named_gap_is_resent_at_once() -> None:
    sender = _three_sent()
    assert sender.acked(1, 3, 0.01)
    assert sender.has_to_send
    [(first, frames)] = sender.take(0.01)
    assert (first, [bytes(raw) for raw in frames]) == (2, [frame(2, 10)])


def test_the_same_gap_is_resent_once_per_period_and_not_once_per_ack() -> None:
    sender = _three_sent()
    for at in (0.01, 0.02, 0.03, 0.2):
        sender.acked(1, 3, at)
        sender.take(at)
    assert sender.resent == 1
    sender.acked(1, 3, 0.01 + RESEND_AFTER_S / 2)
    sender.take(0.01 + RESEND_AFTER_S / 2)
    assert sender.resent == 2


def test_a_wide_gap_is_resent_once_although_each_part_of_it_is_acknowledged() -> None:
    sender, receiver = LinkSender(message_bytes_max=20), LinkReceiver()
    for number in range(1, 41):
        sender.push(frame(number, 10))
    messages = list(sender.take(0.0))
    for message in (messages[0], *messages[30:]):
        receiver.receive(*message)
        sender.acked(receiver.through, receiver.missing_until, 0.01)
    for message in sender.take(0.01):
        receiver.receive(*message)
        sender.acked(receiver.through, receiver.missing_until, 0.02)
        assert not sender.has_to_send
    assert sender.idle
    assert sender.resent == 29


def test_a_new_gap_is_resent_at_once_although_another_was_just_resent() -> None:
    sender = _three_sent()
    sender.acked(0, 2, 0.01)
    sender.take(0.01)
    sender.push(frame(4, 10))
    sender.take(0.02)
    sender.acked(2, 4, 0.03)
    [(first, frames)] = sender.take(0.03)
    assert (first, len(frames)) == (3, 1)


def test_silence_resends_everything_once_and_then_waits_again() -> None:
    sender = _three_sent()
    assert sender.wake_at() == RESEND_AFTER_S
    assert sender.take(RESEND_AFTER_S - 0.01) == []
    [(first, frames)] = sender.take(RESEND_AFTER_S)
    assert (first, len(frames)) == (1, 3)
    assert sender.take(RESEND_AFTER_S + 0.1) == []
    assert sender.wake_at() == 2 * RESEND_AFTER_S


def test_an_acknowledgement_beyond_what_was_sent_takes_only_what_was_sent() -> None:
    sender = _three_sent()
    sender.push(frame(4, 10))
    assert sender.acked(99, 0, 0.1)
    assert sender.acked_through == 3
    [(first, frames)] = sender.take(0.1)
    assert (first, len(frames)) == (4, 1)


@pytest.mark.parametrize(("through", "missing"), [(-5, 0), (0, 0), (-(2**70), 2**70), (0, -3), (0, 1)])
def test_an_absurd_acknowledgement_changes_nothing(through: int, missing: int) -> None:
    sender = _three_sent()
    assert not sender.acked(through, missing, 0.01)
    assert not sender.has_to_send
    assert sender.acked_through == 0
    assert sender.unacked_bytes == 48


def test_a_gap_that_ends_beyond_what_was_sent_resends_only_what_was_sent() -> None:
    sender = _three_sent()
    sender.acked(0, 2**60, 0.01)
    sender.push(frame(4, 10))
    messages = sender.take(0.01)
    assert [(first, len(frames)) for first, frames in messages] == [(1, 3), (4, 1)]


def test_what_is_held_beyond_a_gap_is_bounded_and_the_gap_still_closes() -> None:
    receiver = LinkReceiver(held_bytes_max=40)
    frames = [msgspec.Raw(frame(number, 10)) for number in range(1, 8)]
    assert receiver.receive(2, frames[1:]) == []
    assert "held=2" in repr(receiver)
    assert [bytes(raw)[:6] for raw in receiver.receive(1, frames[:1])] == [b"000001", b"000002", b"000003"]
    assert receiver.missing_until == 0
    assert len(receiver.receive(1, frames)) == 4


def test_the_number_of_frames_that_are_held_beyond_a_gap_is_bounded() -> None:
    """Empty ones would not count by their bytes."""
    receiver = LinkReceiver(held_frames_max=3)
    assert receiver.receive(2, [msgspec.Raw(b"")] * 10) == []
    assert "held=3" in repr(receiver)
    assert receiver.missing_until == 2
    assert len(receiver.receive(1, [msgspec.Raw(b"")])) == 4
    assert receiver.missing_until == 0


def test_a_frame_numbered_zero_or_seen_before_is_passed_over() -> None:
    receiver = LinkReceiver()
    one = msgspec.Raw(frame(1, 1))
    assert receiver.receive(0, [one]) == []
    assert len(receiver.receive(0, [one, one])) == 1
    assert receiver.receive(1, [one]) == []
    assert receiver.through == 1


def test_an_oversize_frame_travels_alone() -> None:
    sender = LinkSender(message_bytes_max=50)
    for size in (10, 100, 10, 10):
        sender.push(frame(1, size))
    assert [(first, len(frames)) for first, frames in sender.take(0.0)] == [(1, 1), (2, 1), (3, 2)]
