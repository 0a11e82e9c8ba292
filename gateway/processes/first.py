"""A gateway of several processes: the first one holds the port, starts those that serve, and stays with them.

They inherit the socket that listens: whoever is free takes the next connection, none that waits is lost with a process
that dies, and no stranger can listen beside them. To nodes each is a gateway of its own, with its own name and line.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections import Counter, deque
from typing import TYPE_CHECKING

from gateway.keys.permits import take_off
from gateway.processes.channel import AllFigures, AllReady, Ask, AskAll, Channel, Enter, Entered, Figures, Leave, Ready
from gateway.processes.figures import Family, Sample, lasting, merged
from gateway.processes.restarts import Restarts
from process.http import bind
from process.lifecycle import GivenUp, Tasks
from process.logging import Log
from process.restarts import how

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings

log = Log("gateway")

ASK_EVERY_S = 5.0
UNANSWERED_MAX = 6
"""A process that leaves more questions unanswered hangs. Questions are counted, not seconds: if it was the first
process that stood still, the others were not silent."""
FIGURES_WAIT_S = 1.0
"""For one that does not answer in time its last figures stand."""
STOP_EXTRA_S = 5.0
"""What leaving may take beside the clients: telling the last events, and letting go of the broker."""
EXIT_UNCLEAN = 1
_ASKED_TO_STOP = (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""By the signal itself ends who had not begun to serve."""


async def supervise(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Keep ``GATEWAY_PROCESSES`` serving until ``stop`` is set; then let them finish what is open and leave.

    Raises :class:`process.lifecycle.PortInUse`, and :class:`process.lifecycle.GivenUp` where it is hopeless or where
    one of them had to be killed in the end.
    """
    with contextlib.closing(bind(settings.host, settings.port, "PORT")) as listener:
        await Processes(settings, listener).run(stop)


def own_figures(serving: int, restarts: int) -> list[Family]:
    """What only the first process knows."""
    return [
        Family(
            "gateway_processes",
            "Processes of this gateway that take requests.",
            "gauge",
            [Sample("gateway_processes", {}, serving)],
        ),
        Family(
            "gateway_process_restarts",
            "Processes that ended and were replaced.",
            "counter",
            [Sample("gateway_process_restarts_total", {}, restarts)],
        ),
    ]


class Process:
    """One that serves, as the first one knows it."""

    def __init__(self, number: int, child: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.child = child
        self.channel = channel
        self.ready_at: float | None = None
        self.families: list[Family] = []
        """Its figures as it told them last."""
        self.inside: Counter[str] = Counter()
        """Requests of limited keys that it has in progress, by the name of the key: they end with it."""
        self.unanswered = 0
        self._questions: deque[asyncio.Future[None]] = deque()

    def ask(self) -> asyncio.Future[None]:
        """Ask for its figures. What is returned is done once they are there, or never will be."""
        question: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._questions.append(question)
        self.channel.say(Ask())
        return question

    def told(self, families: list[Family]) -> None:
        """It has answered the oldest question."""
        self.families, self.unanswered = families, 0
        self._questions.popleft().set_result(None)

    def gone(self) -> None:
        """It has ended."""
        self.channel.close()
        while self._questions:
            self._questions.popleft().set_result(None)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(number)


class Processes:
    """All that serve. Runs once."""

    def __init__(self, settings: GatewaySettings, listener: socket.socket) -> None:
        self._listener = listener
        self._count = settings.gateway_processes
        self._stop_wait_s = settings.lame_duck_s + 2 * settings.stop_grace_s + STOP_EXTRA_S
        self._running: dict[int, Process] = {}
        self._restarts = Restarts()
        self._left_behind: list[Family] = []
        """What processes have counted that have ended."""
        self._were_all_ready = False
        self._leaving = asyncio.Event()
        self._unclean: list[str] = []
        self._tasks = Tasks(log)

    async def run(self, stop: asyncio.Event) -> None:
        """See :func:`supervise`."""
        loop = asyncio.get_running_loop()
        keepers = [loop.create_task(self._keep(number)) for number in range(1, self._count + 1)]
        others = [loop.create_task(self._watch()), loop.create_task(stop.wait())]
        try:
            done, _ = await asyncio.wait([*keepers, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._leave(keepers)
            for task in others:
                task.cancel()
            await asyncio.gather(*keepers, *others, return_exceptions=True)
            await self._tasks.aclose()
        if self._unclean:
            raise GivenUp(f"The gateway has not left in order: {'; '.join(self._unclean)}.", EXIT_UNCLEAN)

    async def _keep(self, number: int) -> None:
        """Have a process with this number until all leave."""
        while not self._leaving.is_set():
            try:
                process = await self._start(number)
            except OSError as error:  # no memory or no file is left for one more: the others go on
                log.error("A process cannot be started.", error=error, action="process_not_started", process=number)
                await self._pause(number, None, None)
                continue
            hearing = self._tasks.start(self._hear(process), f"hear process {number}")
            code = await process.child.wait()
            await hearing  # its last words
            del self._running[number]
            process.gone()
            self._left_behind = merged([self._left_behind, lasting(process.families)])
            if not self._leaving.is_set():
                log.error(
                    "A process of the gateway has ended and is replaced.",
                    action="process_ended",
                    process=number,
                    pid=process.child.pid,
                    ended=how(code),
                )
                await self._pause(number, code, process.ready_at)
            elif code not in _ASKED_TO_STOP:
                self._unclean.append(f"process {number} ended {how(code)}")

    async def _start(self, number: int) -> Process:
        ours, theirs = socket.socketpair()
        with theirs:
            handed = (self._listener.fileno(), theirs.fileno())
            # While others serve, one more must not take a connection before it can do as well.
            late = ["late"] if self._serving else []
            try:
                child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "gateway.processes.one_of_several", str(number), *map(str, handed), *late),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=handed,
                )
            except OSError:
                ours.close()
                raise
        try:
            channel = await Channel.over(ours)
        except OSError:
            ours.close()
            child.kill()
            await child.wait()
            raise
        process = self._running[number] = Process(number, child, channel)
        log.info("A process of the gateway starts.", action="process_started", process=number, pid=child.pid)
        if self._were_all_ready:
            process.channel.say(AllReady())
        if self._leaving.is_set():
            process.send(signal.SIGTERM)
        return process

    async def _pause(self, number: int, code: int | None, ready_at: float | None) -> None:
        """Wait until it is to be started again."""
        ready_s = None if ready_at is None else asyncio.get_running_loop().time() - ready_at
        pause_s = self._restarts.ended(number, code, ready_s, others_ready=bool(self._serving))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), pause_s)

    async def _hear(self, process: Process) -> None:
        while (word := await process.channel.hear()) is not None:
            match word:
                case Ready():
                    process.ready_at = asyncio.get_running_loop().time()
                    self._restarts.ready()
                    self._tell_if_all_ready()
                case Figures():
                    process.told(word.families)
                case AskAll():
                    self._tasks.start(self._tell_all(process), "tell figures")
                case Enter():
                    process.channel.say(Entered(self._enters(process, word)))
                case Leave():
                    take_off(process.inside, word.name, 1)

    def _enters(self, process: Process, asked: Enter) -> bool:
        if sum(each.inside[asked.name] for each in self._running.values()) >= asked.concurrent_max:
            return False
        process.inside[asked.name] += 1
        return True

    def _tell_if_all_ready(self) -> None:
        if self._were_all_ready or len(self._serving) < self._count:
            return
        self._were_all_ready = True
        log.info("All processes of the gateway take requests.", action="all_ready", processes=self._count)
        for process in self._running.values():
            process.channel.say(AllReady())

    async def _tell_all(self, asking: Process) -> None:
        if questions := [process.ask() for process in self._running.values()]:
            await asyncio.wait(questions, timeout=FIGURES_WAIT_S)
        theirs = [process.families for process in self._running.values()]
        own = own_figures(len(self._serving), self._restarts.count)
        asking.channel.say(AllFigures(merged([own, self._left_behind, *theirs])))

    async def _watch(self) -> None:
        """Kill what hangs: a probe asks only one of them, and would not see it."""
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            for process in self._running.values():
                process.unanswered += 1
                if process.unanswered > UNANSWERED_MAX:
                    log.error("A process hangs and is killed.", action="process_hangs", process=process.number)
                    process.send(signal.SIGKILL)
                else:
                    process.ask()

    async def _leave(self, keepers: list[asyncio.Task[None]]) -> None:
        self._leaving.set()
        self._listener.close()
        log.info("The processes of the gateway leave.", action="leaving", processes=len(self._running))
        for process in self._running.values():
            process.send(signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=self._stop_wait_s)
        for process in self._running.values():
            process.send(signal.SIGKILL)
        if late:
            await asyncio.wait(late)

    @property
    def _serving(self) -> list[Process]:
        return [process for process in self._running.values() if process.ready_at is not None]
