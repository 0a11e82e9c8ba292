"""The first of several processes: what it makes of one that hangs."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import pytest

from gateway.channel import Ask, Channel, Figures
from gateway.processes import UNANSWERED_MAX, Process, Processes
from gateway.restarts import STARTS_MAX
from gateway.settings import GatewaySettings
from process.lifecycle import GivenUp
from process.restarts import Backoff
from process.settings import load
from tests.waiting import until


class Child:
    """A process as far as signals go."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


async def started(processes: Processes, number: int) -> tuple[Child, Channel]:
    """One that serves, and its end of the channel."""
    ours, theirs = socket.socketpair()
    child: Any = Child()
    process = processes._running[number] = Process(number, child, await Channel.over(ours))
    processes._tasks.start(processes._hear(process), f"hear {number}")
    return child, await Channel.over(theirs)


async def test_one_that_cannot_be_started_is_tried_again_while_the_others_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes = Processes(load(GatewaySettings, {"GATEWAY_PROCESSES": "2"}), socket.socket())
    _, its_end = await started(processes, 1)
    processes._running[1].ready_at = 0.0
    tries = 0

    async def refused(*_: Any, **__: Any) -> Any:
        nonlocal tries
        tries += 1
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    processes._restarts._pauses[2] = Backoff(0.001, 0.001)
    keeping = asyncio.ensure_future(processes._keep(2))
    await until(lambda: tries > STARTS_MAX or keeping.done())
    assert not keeping.done()
    processes._running.pop(1).gone()
    with pytest.raises(GivenUp, match="the last one could not be started"):
        await keeping
    await processes._tasks.aclose()
    its_end.close()
    processes._listener.close()


async def test_one_that_leaves_questions_unanswered_is_killed_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.processes.ASK_EVERY_S", 0.02)
    processes = Processes(load(GatewaySettings, {"GATEWAY_PROCESSES": "2"}), socket.socket())
    (awake, its_end), (hung, silent_end) = [await started(processes, number) for number in (1, 2)]
    answered = 0

    async def answer() -> None:
        nonlocal answered
        while await its_end.hear() == Ask():
            its_end.say(Figures([]))
            answered += 1

    tasks = [asyncio.ensure_future(answer()), asyncio.ensure_future(processes._watch())]
    await until(lambda: hung.signals)
    assert answered >= UNANSWERED_MAX - 1
    assert set(hung.signals) == {signal.SIGKILL}
    await until(lambda: answered > 2 * UNANSWERED_MAX)
    assert awake.signals == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await processes._tasks.aclose()
    for process in processes._running.values():
        process.gone()
    for end in (its_end, silent_end):
        end.close()
    processes._listener.close()
