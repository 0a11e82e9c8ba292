"""How a process runs and ends: one event loop, signals as a wish to stop, tasks that tell of failure."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

import uvloop

from process import crash
from process.logging import Log, set_up
from process.settings import EMBEDDED_URL, EXIT_WRONG_SETTING, S, WrongSettings, load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

log = Log("process")


GC_OBJECTS = 20_000
"""New objects between two looks for garbage in cycles. Requests make next to none, and Python's own 700 would make each
of them pay for a look at what the others hold."""


FILES_MAX = (1_000_000, 10_240)
"""Files that a process opens at most; the second is what macOS grants where it sets no limit."""


class PortInUse(Exception):
    """The address is taken by another process: the sentence names it and the setting that changes it."""


EXIT_PORT_IN_USE = 3
AGAIN_S = 1.0
"""After so long a task that is kept, and has failed, begins anew."""


class GivenUp(Exception):
    """The role cannot go on: a sentence, and the exit code that says why."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def run_role(
    settings: type[S], role: Callable[[S, asyncio.Event], Awaitable[None]], *, process: int | None = None
) -> int:
    """Load the settings, run the role until it ends or a signal asks it to stop, and return the exit code.

    ``process`` is its number where a role has several; its log lines carry it.
    """
    try:
        loaded = load(settings)
    except WrongSettings as wrong:
        for problem in wrong.problems:
            print(problem, file=sys.stderr)
        return EXIT_WRONG_SETTING
    set_up(**loaded.logging, process=process)
    if loaded.pulsar_url == EMBEDDED_URL:
        log.warning(
            "The embedded broker reaches nobody outside this process: name a Pulsar in PULSAR_URL, or run all roles "
            "with 'fleet up'.",
            action="alone",
        )
    crash.install(os.environ.get(crash.VARIABLE))
    try:
        run_until_signal(lambda stop: role(loaded, stop))
    except WrongSettings as wrong:
        print(wrong, file=sys.stderr)  # what only shows when a setting is used, as with a file that cannot be written
        return EXIT_WRONG_SETTING
    except PortInUse as error:
        print(error, file=sys.stderr)
        return EXIT_PORT_IN_USE
    except GivenUp as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def run_until_signal(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run on a loop of its own; SIGINT, SIGTERM and the end of its terminal set the event that the role gets."""
    _raise_file_limit()
    # What the modules are made of stays for good: no look need go through it again.
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    uvloop.run(_until_signal(role))


async def _until_signal(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        # A terminal's end that whoever started us ignores, as nohup does, is not for us.
        if number != signal.SIGHUP or handler is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    try:
        await role(stop)
    finally:
        # One that comes after the last one was obeyed means no more than one that comes before the first.
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler or signal.SIG_DFL)


def _raise_file_limit() -> None:
    """As far as this process may. Each client is a file, and the usual 1,024 are for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for files in FILES_MAX:
        wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


class Tasks:
    """Background tasks of one owner: a failure is logged with the task's name, and all end together."""

    def __init__(self, log_: Log) -> None:
        self._log = log_
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run it in the background."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """The same for work without end: what fails in it once, though nobody foresaw that, must not end it for as long
        as the process lives, which may be months."""
        return self.start(self._kept(work, name), name)

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                return await work()
            except Exception as error:
                self._tell(error, name)
            await asyncio.sleep(AGAIN_S)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell(error, task.get_name())

    def _tell(self, error: BaseException, name: str) -> None:
        self._log.error("A background task failed.", error=error, action="task_failed", task=name)

    async def aclose(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
