"""The first of several processes: whom it starts, replaces and kills, and what it puts together of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from gateway.processes.channel import AllFigures, AllReady, Ask, AskAll, Channel, Enter, Entered, Figures, Leave, Ready
from gateway.processes.figures import Family, Sample
from gateway.processes.first import EXIT_UNCLEAN, UNANSWERED_MAX, Process, Processes
from gateway.processes.restarts import STARTS_MAX
from gateway.settings import GatewaySettings
from process.lifecycle import GivenUp
from process.restarts import Backoff
from process.settings import load
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVED = Family("served", "", "counter", [Sample("served_total", {}, 1.0)])
BUSY = Family("busy", "", "gauge", [Sample("busy", {}, 1.0)])


class Served:
    """A process that the first one has started, as far as that one can see."""

    def __init__(self, number: int, late: bool, end: socket.socket) -> None:
        self.number = number
        self.pid = 1000 + number
        self.is_late = late
        self.end = end
        self.signals: list[int] = []
        self.leaves = True
        """Whether it obeys."""
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.channel: Channel

    def send_signal(self, number: int) -> None:
        if self._code.done():
            raise ProcessLookupError
        self.signals.append(number)
        if number == signal.SIGKILL or self.leaves:
            self.ends(0 if number == signal.SIGTERM else -number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def ends(self, code: int) -> None:
        self._code.set_result(code)
        self.channel.close()

    async def hears(self, word: object) -> None:
        """The next one is this; questions before it are passed over."""
        while (heard := await asyncio.wait_for(self.channel.hear(), 10)) != word:
            assert heard == Ask(), heard


class Gateway:
    """Runs the first of two processes, with what it starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **env: str) -> None:
        self.started: list[Served] = []
        self.stop = asyncio.Event()
        self.listener = socket.socket()
        self._handed = self.listener.fileno()
        self.processes = Processes(load(GatewaySettings, {"GATEWAY_PROCESSES": "2", **env}), self.listener)
        self.running: asyncio.Task[None]
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self._start)
        monkeypatch.setattr("gateway.processes.first.ASK_EVERY_S", 3600.0)

    async def _start(self, *command: str, pass_fds: tuple[int, int], **_: Any) -> Served:
        number, listener, channel, *late = command[3:]
        assert (int(listener), int(channel)) == pass_fds
        assert int(listener) == self._handed
        one = Served(int(number), late == ["late"], socket.socket(fileno=os.dup(int(channel))))
        one.channel = await Channel.over(one.end)
        self.started.append(one)
        return one

    async def count(self, count: int) -> list[Served]:
        await until(lambda: len(self.started) == count or self.running.done())
        assert not self.running.done(), self.running.exception()
        return self.started

    async def serving(self) -> list[Served]:
        """Both, ready."""
        await self.count(2)
        for one in self.started:
            one.channel.say(Ready())
        for one in self.started:
            await one.hears(AllReady())
        return self.started


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    async with running(Gateway(monkeypatch)) as one:
        yield one


@contextlib.asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Gateway]:
    gateway.running = asyncio.ensure_future(gateway.processes.run(gateway.stop))
    yield gateway
    gateway.stop.set()
    await asyncio.wait([gateway.running])
    assert gateway.listener.fileno() == -1, "nobody must come who is never let in"


def value(families: list[Family], name: str) -> float:
    (found,) = [sample.value for family in families for sample in family.samples if sample.name == name]
    return found


async def test_both_are_told_once_when_both_are_ready(gateway: Gateway) -> None:
    first, second = await gateway.count(2)
    assert [first.number, second.number] == [1, 2]
    first.channel.say(Ready())
    first.channel.say(Enter("key", 1))
    assert await first.channel.hear() == Entered(True)
    second.channel.say(Ready())
    for one in (first, second):
        await one.hears(AllReady())
    second.channel.say(Ready())
    second.channel.say(Enter("other", 1))
    await second.hears(Entered(True))


async def test_one_that_ends_is_replaced_by_one_that_waits_until_it_is_ready(gateway: Gateway) -> None:
    first, second = await gateway.serving()
    assert not first.is_late
    assert not second.is_late
    first.ends(-signal.SIGSEGV)
    third = (await gateway.count(3))[2]
    assert (third.number, third.is_late) == (1, True)
    await third.hears(AllReady())
    assert second.signals == []


async def test_where_none_serves_one_more_need_not_wait(gateway: Gateway) -> None:
    first, second = await gateway.count(2)
    first.ends(1)
    third = (await gateway.count(3))[2]
    assert (third.number, third.is_late) == (1, False)
    assert second.signals == []


async def test_those_that_end_early_are_counted_anew_once_one_was_ready(gateway: Gateway) -> None:
    gateway.processes._restarts._pauses = defaultdict(lambda: Backoff(0.001, 0.001))
    await gateway.count(2)

    async def end(times: int) -> None:
        for _ in range(times):
            count = len(gateway.started)
            gateway.started[-1].ends(1)
            await gateway.count(count + 1)

    await end(STARTS_MAX - 1)
    gateway.started[-1].channel.say(Ready())
    await until(lambda: gateway.processes._serving)
    await end(1 + STARTS_MAX - 1)
    gateway.started[-1].ends(1)
    with pytest.raises(GivenUp, match="have ended before they took requests"):
        await asyncio.wait_for(gateway.running, 10)


async def test_what_one_says_of_its_settings_ends_the_other_and_is_the_exit_code(gateway: Gateway) -> None:
    first, second = await gateway.count(2)
    first.ends(2)
    await asyncio.wait([gateway.running], timeout=10)
    assert second.signals[:1] == [signal.SIGTERM]
    error = gateway.running.exception()
    assert isinstance(error, GivenUp)
    assert error.exit_code == 2


async def test_figures_are_those_of_all_with_what_those_have_counted_that_ended(gateway: Gateway) -> None:
    first, second = await gateway.serving()

    async def figures() -> list[Family]:
        second.channel.say(AskAll())
        for one in {gateway.started[-1], second}:
            await one.hears(Ask())
            one.channel.say(Figures([SERVED, BUSY]))
        answer = await second.channel.hear()
        assert isinstance(answer, AllFigures)
        return answer.families

    first.channel.say(AskAll())
    for one in (first, second):
        await one.hears(Ask())
        one.channel.say(Figures([SERVED, BUSY]))
    told = await first.channel.hear()
    assert isinstance(told, AllFigures)
    names = ("served_total", "busy", "gateway_processes", "gateway_process_restarts_total")
    assert [value(told.families, name) for name in names] == [2, 2, 2, 0]
    first.ends(-signal.SIGKILL)
    third = (await gateway.count(3))[2]
    await third.hears(AllReady())
    assert [value(await figures(), name) for name in names] == [3, 2, 1, 1]
    third.channel.say(Ready())
    await until(lambda: len(gateway.processes._serving) == 2)
    assert value(await figures(), "gateway_processes") == 2


async def test_of_one_that_does_not_answer_in_time_the_last_figures_stand(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await gateway.serving()
    for answers, wait_s in (((first, second), 60.0), ((first,), 0.05)):
        monkeypatch.setattr("gateway.processes.first.FIGURES_WAIT_S", wait_s)
        first.channel.say(AskAll())
        for one in (first, second):
            await one.hears(Ask())
        for one in answers:
            one.channel.say(Figures([SERVED]))
        told = await first.channel.hear()
        assert isinstance(told, AllFigures)
        assert value(told.families, "served_total") == 2


async def test_who_asks_for_figures_when_another_ends_does_not_wait_for_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.processes.first.FIGURES_WAIT_S", 60)
    first, second = await gateway.serving()
    first.channel.say(AskAll())
    for one in (first, second):
        await one.hears(Ask())
    first.channel.say(Figures([SERVED]))
    second.ends(-signal.SIGKILL)
    assert isinstance(await asyncio.wait_for(first.channel.hear(), 10), AllFigures)


async def test_the_last_words_of_one_that_ends_count(gateway: Gateway) -> None:
    first, second = await gateway.serving()
    second.channel.say(AskAll())
    for one in (first, second):
        await one.hears(Ask())
    second.channel.say(Figures([]))
    first.channel.say(Figures([SERVED]))
    first.ends(-signal.SIGKILL)
    assert isinstance(await second.channel.hear(), AllFigures)
    third = (await gateway.count(3))[2]
    await third.hears(AllReady())
    second.channel.say(AskAll())
    for one in (second, third):
        await one.hears(Ask())
        one.channel.say(Figures([]))
    told = await second.channel.hear()
    assert isinstance(told, AllFigures)
    assert value(told.families, "served_total") == 1


async def test_one_that_cannot_be_talked_to_is_ended_and_tried_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await gateway.serving()
    over = Channel.over

    async def refused(_: socket.socket) -> Channel:
        monkeypatch.setattr(Channel, "over", over)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", gateway._start)
        raise OSError

    async def start(*command: str, **more: Any) -> Served:
        one = await gateway._start(*command, **more)
        monkeypatch.setattr(Channel, "over", refused)
        return one

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    first.ends(-signal.SIGKILL)
    third, fourth = (await gateway.count(4))[2:]
    assert third.signals == [signal.SIGKILL]
    await fourth.hears(AllReady())


async def test_a_keys_places_are_counted_over_all_and_those_of_one_that_ends_are_free(gateway: Gateway) -> None:
    first, second = await gateway.serving()

    async def enters(one: Served, name: str = "key") -> bool:
        one.channel.say(Enter(name, 2))
        word = await one.channel.hear()
        assert isinstance(word, Entered)
        return word.may

    assert [await enters(first), await enters(second), await enters(first)] == [True, True, False]
    assert await enters(first, "other")
    second.channel.say(Leave("key"))
    await until(lambda: not gateway.processes._running[2].inside)
    assert [await enters(first), await enters(second)] == [True, False]
    first.ends(-signal.SIGKILL)
    await gateway.count(3)
    assert [await enters(second), await enters(second), await enters(second)] == [True, True, False]


async def test_who_obeys_is_only_asked_to_leave(gateway: Gateway) -> None:
    both = await gateway.serving()
    gateway.stop.set()
    await asyncio.wait_for(gateway.running, 10)
    assert [one.signals for one in both] == [[signal.SIGTERM]] * 2
    assert len(gateway.started) == 2


async def test_one_that_does_not_leave_in_its_time_is_killed_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.processes.first.STOP_EXTRA_S", 0.1)
    async with running(Gateway(monkeypatch, LAME_DUCK_S="0.1", STOP_GRACE_S="0.2")) as gateway:
        first, second = await gateway.serving()
        second.leaves = False
        began = asyncio.get_running_loop().time()
        gateway.stop.set()
        with pytest.raises(GivenUp, match=r": process 2 ended by SIGKILL\.$") as given_up:
            await asyncio.wait_for(gateway.running, 10)
        assert asyncio.get_running_loop().time() - began >= 0.1 + 2 * 0.2 + 0.1 - 0.01
        assert given_up.value.exit_code == EXIT_UNCLEAN
        assert (first.signals, second.signals) == ([signal.SIGTERM], [signal.SIGTERM, signal.SIGKILL])


@pytest.mark.parametrize(
    ("code", "clean"),
    [(0, True), (-signal.SIGTERM, True), (-signal.SIGINT, True), (-signal.SIGHUP, True), (1, False), (2, False)],
)
async def test_who_was_asked_to_stop_before_it_could_serve_has_left_in_order(
    gateway: Gateway, code: int, clean: bool
) -> None:
    first, second = await gateway.count(2)
    first.leaves = False
    gateway.stop.set()
    await until(lambda: first.signals)
    first.ends(code)
    await asyncio.wait([gateway.running], timeout=10)
    assert (gateway.running.exception() is None) == clean
    assert second.signals == [signal.SIGTERM]


async def test_one_that_is_started_at_the_very_end_is_asked_to_leave_too(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.serving()
    starts, may_start = asyncio.Event(), asyncio.Event()

    async def late(*command: str, **more: Any) -> Served:
        starts.set()
        await may_start.wait()
        return await gateway._start(*command, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", late)
    gateway.started[0].ends(-signal.SIGKILL)
    await asyncio.wait_for(starts.wait(), 10)
    gateway.stop.set()
    await until(lambda: gateway.started[1].signals)
    may_start.set()
    await asyncio.wait_for(gateway.running, 10)
    assert [one.signals for one in gateway.started[1:]] == [[signal.SIGTERM]] * 2


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
    monkeypatch.setattr("gateway.processes.first.ASK_EVERY_S", 0.02)
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
