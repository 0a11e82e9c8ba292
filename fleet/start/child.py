"""One running child of the supervisor."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from typing import TextIO

from fleet.start.role import Role

LINE_BYTES_MAX = 64 * 1024
TAIL_LINES = 8


class Child:
    """A role's process in a session of its own: the terminal's Ctrl-C reaches us alone, so the order is ours.

    Its exit code is collected by `collect`, which the supervisor calls on SIGCHLD.
    """

    def __init__(self, role: Role, process: "subprocess.Popen[bytes]") -> None:
        self.role = role
        self.process = process
        self.ended = asyncio.Event()
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._silent = asyncio.Event()
        self._silent.set()
        self._say: Callable[[str, str], None] | None = None
        self._log: TextIO | None = None

    @classmethod
    def start(cls, role: Role, *, heard: bool) -> "Child":
        """Start `role`. Its output waits for `listen` if it is to be heard; else it goes where ours goes.

        Raises OSError when the program cannot be started.
        """
        process = subprocess.Popen(
            role.argv,
            env=dict(role.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if heard else None,
            stderr=subprocess.STDOUT if heard else None,
            start_new_session=True,
        )
        return cls(role, process)

    async def listen(self, say: Callable[[str, str], None]) -> None:
        """Hand its output, line by line, to its log or else to `say` from now on."""
        if self.process.stdout is None:
            return
        self._silent.clear()
        if self.role.log:
            self.role.log.parent.mkdir(parents=True, exist_ok=True)
            # To its end: what somebody cuts off, as logrotate's copytruncate does, must not come back as zeros.
            self.role.log.write_bytes(b"")
            self._log = self.role.log.open("a", errors="replace")
            say(self.role.name, f"its log is {self.role.log}")
        self._say = say
        await asyncio.get_running_loop().connect_read_pipe(lambda: _Lines(self), self.process.stdout)

    @property
    def running(self) -> bool:
        """Whether its exit code has not been collected yet."""
        return not self.ended.is_set()

    @property
    def code(self) -> int:
        """The exit code as a shell tells it: 128 + N for a process that signal N ended."""
        code = self.process.returncode
        return 128 - code if code < 0 else code

    def collect(self) -> None:
        """Take the exit code if it has ended, and end what is left of its process group."""
        if self.running and self.process.poll() is not None:
            self.kill()
            self.ended.set()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def last_lines(self, wait_s: float = 0.5) -> list[str]:
        """The end of its output, once that has come to its end (a process it left behind may hold it open)."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._silent.wait(), wait_s)
        return list(self.tail)

    def heard(self, line: str) -> None:
        """Pass one line of its output on, and keep it for the case that it was among the last."""
        # The frames of a Java stack trace would push out the line that tells why.
        if not line.lstrip().startswith(("at ", "...")):
            self.tail.append(line)
        if self._log:
            try:
                self._log.write(line + "\n")
                self._log.flush()
            except OSError as error:
                # Its output is shown from here on: a pipe that nobody reads would stop it.
                with contextlib.suppress(OSError):
                    self._log.close()
                self._log = None
                self._tell(f"its log cannot be written any more: {error}")
                self._tell(line)
        else:
            self._tell(line)

    def _tell(self, line: str) -> None:
        if self._say:
            self._say(self.role.name, line)

    def fell_silent(self) -> None:
        """Its output has come to its end."""
        self._silent.set()
        if self._log:
            self._log.close()


class _Lines(asyncio.Protocol):
    """Cuts a child's output into lines; a line longer than LINE_BYTES_MAX is shown in parts."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._tell(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._tell(self._rest)
        self._child.fell_silent()

    def _tell(self, line: bytes) -> None:
        self._child.heard(line.decode(errors="replace").rstrip("\r"))
