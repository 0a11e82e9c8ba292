"""Starts waves of roles, watches them, and stops everything it started."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet.start import orphans
from fleet.start.child import Child
from fleet.start.ending import CannotStart, Ending
from fleet.start.readiness import until_ready
from fleet.start.role import Role, Wave
from process.guarding import Guard

TASK_WAIT_S = 1800.0
UNDO_WAIT_S = 20.0
ORPHAN_ROUNDS_MAX = 50
TELLING_CODES = (Ending.SETTING, Ending.PORT)
"""Exit codes by which a role itself says what is wrong."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a supervisor goes about it."""

    start_wait_s: float
    """From a wave's start until all of it is ready."""
    stop_wait_s: float
    """For stopping everything, all roles together; then SIGKILL."""
    stop_together: bool = False
    """SIGTERM to all roles at once, rather than in the reverse order of their start."""
    inherit_output: bool = False
    """Roles write where we write, without prefix."""
    pass_on_code: bool = False
    """End with the code of the role that died, rather than with DIED."""


def share(stop_wait_s: float, index: int, count: int) -> float:
    """When, counted from the start of stopping, the `index`-th of `count` roles must have gone.

    What earlier ones leave over goes to the later ones, and a slow one cannot use up the time of all the others.
    """
    return stop_wait_s * (index + 1) / count


class Supervisor:
    """Runs one plan once. Must be run in the main thread, where signals arrive."""

    def __init__(self, plan: Sequence[Wave], manner: Manner, say: Callable[[str, str], None]) -> None:
        self._plan = plan
        self._manner = manner
        self._say = say
        self._children: list[Child] = []
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._guard: Guard | None = None
        self._all_ready = False

    async def run(self, announce: Callable[[], None] = lambda: None) -> int:
        """Start all waves, call `announce` when all are ready, watch until something ends, stop everything.

        Returns the exit code. Raises CannotStart, after stopping everything, when the start failed.
        """
        loop = asyncio.get_running_loop()
        # One that whoever started us ignores, as nohup does, is not for us.
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in heeded:
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGCHLD, self._collect)
        orphans.adopt()
        # The kernel ends a container's processes together with process 1.
        self._guard = Guard(self._manner.stop_wait_s) if os.getpid() != 1 else None
        try:
            for wave in self._plan:
                await self._bring_up(wave)
                if self._stop.is_set():
                    return Ending.STOPPED
            announce()
            self._all_ready = True
            return await self._watch()
        finally:
            await self._take_down()
            if self._guard:
                self._guard.release()
            loop.remove_signal_handler(signal.SIGCHLD)
            # One more Ctrl-C means no more now than before we began.
            for number in heeded:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number] or signal.SIG_DFL)

    async def _bring_up(self, wave: Wave) -> None:
        started = [await self._start(role) for role in wave]
        answers: dict[str, str] = {}
        waits = [asyncio.ensure_future(self._ready(child, answers)) for child in started]
        everyone = asyncio.gather(*waits)
        stop = asyncio.ensure_future(self._stop.wait())
        lost = asyncio.ensure_future(self._first_to_end())
        try:
            await asyncio.wait((everyone, stop, lost), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                return
            if lost.done():
                raise await self._loss(lost.result(), "before everything was ready")
            everyone.result()
        finally:
            for task in (*waits, stop, lost):
                task.cancel()
            await asyncio.gather(*waits, everyone, stop, lost, return_exceptions=True)

    async def _start(self, role: Role) -> Child:
        if role.undo and self._guard:
            self._guard.undo(role.undo)
        try:
            child = Child.start(role, heard=not self._manner.inherit_output)
        except OSError as error:
            raise CannotStart(Ending.TOOL, f"{role.name}: cannot run {role.argv[0]}: {error.strerror}") from None
        # Ours before anything is awaited: a child that ends at once must not be collected as a stranger.
        self._children.append(child)
        if self._guard:
            self._guard.started(child.process.pid)
        try:
            await child.listen(self._say)
        except OSError as error:
            raise CannotStart(Ending.SETTING, f"{role.name}: its log {role.log} cannot be written: {error}") from None
        return child

    async def _ready(self, child: Child, answers: dict[str, str]) -> None:
        role = child.role
        wait_s = role.wait_s or (TASK_WAIT_S if role.once else self._manner.start_wait_s)
        try:
            async with asyncio.timeout(wait_s):
                if role.once:
                    await child.ended.wait()
                else:
                    await until_ready(role.ready_urls, answers, role.certificates)
        except TimeoutError:
            said = "; ".join(f"{url} said: {text}" for url, text in answers.items() if url in role.ready_urls)
            ending = Ending.LATE if role.blame is Ending.DIED else role.blame
            remedy = "see its lines above, or raise START_WAIT_S"
            raise CannotStart(ending, f"{role.name} was not ready within {wait_s:g} s ({said}): {remedy}") from None

    async def _first_to_end(self) -> Child:
        """The first child that ended although it should not have: a service, or a task with another code than 0."""
        while True:
            for child in self._children:
                if not child.running and not self._may_end(child):
                    return child
            waits = [asyncio.ensure_future(child.ended.wait()) for child in self._children if child.running]
            if not waits:
                await asyncio.Event().wait()
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()

    def _may_end(self, child: Child) -> bool:
        return child.code == 0 and (child.role.once or (child.role.may_leave and self._all_ready))

    async def _watch(self) -> int:
        stop = asyncio.ensure_future(self._stop.wait())
        lost = asyncio.ensure_future(self._first_to_end())
        try:
            await asyncio.wait((stop, lost), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                return Ending.STOPPED
            child = lost.result()
            if self._manner.pass_on_code:
                return child.code
            raise await self._loss(child, "by itself")
        finally:
            stop.cancel()
            lost.cancel()

    async def _loss(self, child: Child, when: str) -> CannotStart:
        role = child.role
        last = [f"  {line}" for line in await child.last_lines() if line.strip()]
        head = f"{role.name} ended with code {child.code} {when}" + ("; its last lines:" if last else "")
        ending = Ending(child.code) if child.code in TELLING_CODES else role.blame
        return CannotStart(ending, head, *last)

    async def _take_down(self) -> None:
        running = [child for child in reversed(self._children) if child.running]
        began = asyncio.get_running_loop().time()
        if self._manner.stop_together:
            for child in running:
                child.terminate()
        for index, child in enumerate(running):
            child.terminate()
            last = len(running) - 1 if self._manner.stop_together else index
            limit = began + share(self._manner.stop_wait_s, last, len(running))
            await self._gone(child, limit - asyncio.get_running_loop().time())
        await self._end_orphans()
        for child in reversed(self._children):
            if child.role.undo:
                _undo(child.role.undo)

    async def _gone(self, child: Child, wait_s: float) -> None:
        ended = asyncio.ensure_future(child.ended.wait())
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((ended, hurry), timeout=max(wait_s, 0), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if child.running:
            self._say("fleet", f"{child.role.name} did not stop in time and is killed")
            child.kill()
        await ended

    async def _end_orphans(self) -> None:
        own = self._own_pids()
        for _ in range(ORPHAN_ROUNDS_MAX):  # the children of one that is killed come to us in their turn
            left = orphans.living(own)
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)
            orphans.reap(own)

    def _asked_to_stop(self, number: signal.Signals) -> None:
        # Of the end of its terminal a process hears twice, from the shell and from the kernel: that is no hurry.
        if self._stop.is_set() and number != signal.SIGHUP:
            self._hurry.set()
        self._stop.set()
        self._say("fleet", f"{number.name}: stopping" + (" at once" if self._hurry.is_set() else ""))

    def _collect(self) -> None:
        for child in self._children:
            if child.running:
                child.collect()
                if self._guard and not child.running:
                    self._guard.ended(child.process.pid)
        orphans.reap(self._own_pids())

    def _own_pids(self) -> set[int]:
        own = {child.process.pid for child in self._children}
        return own | ({self._guard.pid} if self._guard else set())


def _undo(command: tuple[str, ...]) -> None:
    # Usually there is nothing left to undo, and the command says so: its output would only frighten.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, check=False, timeout=UNDO_WAIT_S, capture_output=True)
