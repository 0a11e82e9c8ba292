"""How calls come out of the threads of Pulsar's client."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from broker.pulsar.inbox import Inbox
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


class CountingLoop:
    """How often a loop is woken; its calls are made by hand."""

    def __init__(self) -> None:
        self.turns: list[Callable[[], None]] = []

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        self.turns.append(call)


@pytest.fixture
def loop() -> CountingLoop:
    return CountingLoop()


@pytest.fixture
def inbox(loop: CountingLoop) -> Inbox:
    return Inbox(loop)  # type: ignore[arg-type]


def test_calls_of_one_turn_wake_the_loop_once_and_come_in_order(loop: CountingLoop, inbox: Inbox) -> None:
    seen: list[tuple[int, str]] = []
    for turn in (1, 2):
        for number in range(3):
            inbox.put(lambda *values: seen.append(values), number, "value")
        assert (len(inbox), len(loop.turns)) == (3, turn)
        loop.turns[-1]()
        assert seen == [(number, "value") for number in range(3)] * turn
        assert len(inbox) == 0


def test_a_call_that_fails_takes_no_other_along(loop: CountingLoop, inbox: Inbox) -> None:
    seen: list[int] = []

    def fails() -> None:
        raise ValueError

    inbox.put(fails)
    inbox.put(seen.append, 1)
    with pytest.raises(ValueError):  # noqa: PT011
        loop.turns[0]()
    loop.turns[1]()
    assert (seen, len(loop.turns)) == ([1], 2)


def test_what_is_put_while_others_are_dealt_with_is_not_left_behind(loop: CountingLoop, inbox: Inbox) -> None:
    seen: list[int] = []
    inbox.put(lambda: inbox.put(seen.append, 1))
    for turn in loop.turns:  # grows
        turn()
    assert seen == [1]


async def test_whatever_comes_from_another_thread_is_done_in_the_loop() -> None:
    seen: list[int] = []
    inbox = Inbox(asyncio.get_running_loop())
    thread = threading.Thread(target=lambda: inbox.put(lambda: seen.append(threading.get_ident())))
    thread.start()
    await until(lambda: seen == [threading.get_ident()])
    thread.join()


def test_a_closed_loop_is_no_trouble_of_the_thread() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    Inbox(loop).put(lambda: None)
