"""One running engine: its process group, and the end of what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections import deque
from typing import TYPE_CHECKING

from process.lifecycle import Tasks
from process.logging import Log
from workernode.engine import EngineUnusable

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping, Sequence

    from process.guarding import Guard

log = Log("node.engine")

TAIL_LINES = 40
LINE_CHARS_MAX = 2000
READ_BYTES = 64 * 1024
LAST_WORDS_S = 0.5
_BREAKS = re.compile(rb"[\r\n]+")


class Child:
    """A process in a session of its own, so that all that it starts can be ended with it.

    Its standard input is a pipe that closes when this process ends. What it writes before it is :attr:`ready` goes to
    the log for debugging; later lines may hold prompts, and only the last ones are kept, to see what it died of.
    """

    def __init__(self, process: asyncio.subprocess.Process, pipes: _Pipes, guard: Guard) -> None:
        self.pid = process.pid
        self.ended = asyncio.Event()
        self.code = 0
        self.lines = 0
        """How many it has written so far."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.ready = False
        self._process = process
        self._pipes = pipes
        self._guard = guard
        self._tasks = Tasks(log)
        self._reading = self._tasks.start(self._read(), "engine's output")
        self._tasks.start(self._wait(), "engine's end")

    def __repr__(self) -> str:
        return f"<Child {self.pid} ready={self.ready} ended={self.ended.is_set()}>"

    @classmethod
    async def start(cls, argv: Sequence[str], environment: Mapping[str, str], guard: Guard, log_path: str) -> Child:
        """Raises OSError if the program cannot be started, and :class:`workernode.engine.EngineUnusable` if the log
        cannot be written."""
        pipes = _Pipes(log_path)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=environment,
                stdin=pipes.its_input,
                stdout=pipes.its_output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_its()
        guard.started(process.pid)
        return cls(process, pipes, guard)

    async def end(self, grace_s: float) -> None:
        """Ask it to end, and kill what is left of its group after ``grace_s``."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.ended.wait()
        self.kill()
        await self.ended.wait()

    def kill(self) -> None:
        """End its whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def aclose(self) -> None:
        """Kill it and let go of everything."""
        self.kill()
        await self.ended.wait()
        await self._tasks.aclose()
        self._pipes.close()

    async def _wait(self) -> None:
        try:
            self.code = await self._process.wait()
            self.kill()  # workers that it leaves behind would keep the memory that the next one needs
            await asyncio.wait((self._reading,), timeout=LAST_WORDS_S)
        finally:
            self.kill()
            self._guard.ended(self.pid)
            self.ended.set()

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._pipes.output
        )
        rest = b""
        try:
            while data := await reader.read(READ_BYTES):
                self._pipes.keep(data)
                *lines, rest = _BREAKS.split(rest + data)
                for line in lines:
                    self._take(line)
                rest = rest[-READ_BYTES:]
            self._take(rest)
        finally:
            transport.close()

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()[:LINE_CHARS_MAX]
        if not text:
            return
        self.lines += 1
        self.tail.append(text)
        if not self.ready:
            log.debug(text, action="engine_says", pid=self.pid)


def _open_log(path: str) -> io.FileIO:
    """It may hold prompts: nobody else's to read."""
    try:
        return open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as error:
        raise EngineUnusable(f"LOCAL_LOG: {path} cannot be written ({error.strerror}).") from None


class _Pipes:
    """The two ends of what an engine reads and writes, and the file that keeps it.

    They are not asyncio's own: to it a process has not ended while somebody else holds one of them, such as a worker
    that was left behind.
    """

    def __init__(self, log_path: str) -> None:
        self._log = _open_log(log_path) if log_path else None  # closed with the pipes
        self.its_input, self._input = os.pipe()
        output, self.its_output = os.pipe()
        self.output = os.fdopen(output, "rb", buffering=0)

    def keep(self, data: bytes) -> None:
        if self._log is None:
            return
        try:
            self._log.write(data)
        except OSError as error:  # a full disk, say: nobody would read what the engine says, and it would end of that
            self._log.close()
            self._log = None
            sentence = f"LOCAL_LOG cannot be written any more: {os.strerror(error.errno or 0)}. The engine goes on."
            log.error(sentence, action="engine_log_lost")

    def close_its(self) -> None:
        """The child has them."""
        os.close(self.its_input)
        os.close(self.its_output)

    def close(self) -> None:
        os.close(self._input)
        self.output.close()
        if self._log is not None:
            self._log.close()
