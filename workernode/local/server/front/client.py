"""The HTTP process's end of the pipe: calls out, words back to whoever waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.local.server.ending import CannotServe
from workernode.local.server.front.problem import Problem
from workernode.local.server.pipe import Frames, framed
from workernode.local.server.words import (
    Cancel,
    Embed,
    Ended,
    Figures,
    Piece,
    Pieces,
    Progress,
    Ready,
    Refusal,
    Report,
    Submit,
    Vectors,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from workernode.local.server.flags import Flags

_END_WAIT_S = 5.0


class Call:
    """What one HTTP request has the steps do: any number of submissions, whose words come back in one queue."""

    def __init__(self, client: StepClient) -> None:
        self._client = client
        self._words: asyncio.Queue[Any] = asyncio.Queue()
        self.requests: list[int] = []

    def submit(self, make: Callable[[int], Submit | Embed]) -> int:
        """Send what ``make`` makes of a fresh number, which is returned."""
        number = self._client.fresh_number()
        self.requests.append(number)
        self._client.begin(make(number), self._words)
        return number

    async def word(self) -> Any:
        """The next word. Raises :class:`Problem` where it is a refusal."""
        word = await self._words.get()
        if isinstance(word, Refusal):
            raise Problem(word.message, code=word.code, status=word.http_status, param=word.param)
        return word


class StepClient:
    """The step process and what is known of it."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._encoder = msgspec.msgpack.Encoder()
        self._queues: dict[int, asyncio.Queue[Any]] = {}
        self._due: dict[int, int] = {}
        """Of the submissions that the steps are not done with: how many choices still have no end."""
        self._last = 0
        self._writer: asyncio.StreamWriter | None = None
        self.open_calls = 0
        self._heard_at = 0.0
        """When the steps said something last, or got something to do after a rest; by the loop's clock."""
        self.idle = asyncio.Event()
        self.idle.set()
        self.progress = Progress("loading", "Starting.", 0.0)
        self.ready: Ready | None = None
        self.figures = Figures()

    async def run(self, on_ready: Callable[[Ready], None]) -> None:
        """Start the process and listen to it until cancelled. Raises :class:`CannotServe` when it ends by itself."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "workernode.local.server.steps"),
                *(str(theirs.fileno()), msgspec.json.encode(self._flags).decode()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=_environ(),
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            ended = await self._listen(reader, on_ready)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _END_WAIT_S)
            raise _reason(ended, process.returncode)
        finally:
            self._writer.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def is_stuck(self) -> bool:
        """Whether there is work, and nothing was heard of it for longer than the flags allow."""
        silent_s = asyncio.get_running_loop().time() - self._heard_at
        # A call may be open for longer than that: until its client has read everything.
        return bool(self._due) and silent_s > self._flags.stuck_s

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncIterator[Call]:
        """A call, whose submissions that have not ended by the end of the block are cancelled.

        Raises :class:`Problem` when too many wait.
        """
        if self.open_calls >= self._flags.max_batch + self._flags.waiting_max:
            raise Problem("Too many requests wait for this model.", code="overloaded", status=503)
        self.open_calls += 1
        self.idle.clear()
        call = Call(self)
        try:
            yield call
        finally:
            self.open_calls -= 1
            if not self.open_calls:
                self.idle.set()
            for number in call.requests:
                self._due.pop(number, None)
                if self._queues.pop(number, None) is not None:
                    self.send(Cancel(number))

    def fresh_number(self) -> int:
        """For a submission."""
        self._last += 1
        return self._last

    def begin(self, word: Submit | Embed, queue: asyncio.Queue[Any]) -> None:
        """Have the steps do it; their words go into the queue."""
        if not self._due:
            self._heard_at = asyncio.get_running_loop().time()
        self._queues[word.request] = queue
        self._due[word.request] = word.choices if isinstance(word, Submit) else 1
        self.send(word)

    def send(self, word: Submit | Embed | Cancel) -> None:
        """Tell the step process."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framed([word], self._encoder))

    def refuse_all(self, sentence: str) -> None:
        """Everybody who waits is told that there will be no more."""
        for number, queue in list(self._queues.items()):
            queue.put_nowait(Refusal(number, "server_error", sentence, 503))

    async def _listen(self, reader: asyncio.StreamReader, on_ready: Callable[[Ready], None]) -> Ended | None:
        frames = Frames(Report)
        ended = None
        while ended is None and (data := await _read(reader)):
            self._heard_at = asyncio.get_running_loop().time()
            for word in frames.feed(data):
                if isinstance(word, Pieces):
                    for piece in word.pieces:
                        self._pass(piece)
                elif isinstance(word, Figures):
                    self.figures = word
                elif isinstance(word, Progress):
                    self.progress = word
                elif isinstance(word, Ready):
                    on_ready(word)
                    self.ready = word
                elif isinstance(word, Ended):
                    ended = word
                else:
                    self._pass(word)
        self.ready = None
        self.refuse_all("The model server ended.")
        return ended

    def _pass(self, word: Any) -> None:
        if isinstance(word, Vectors | Refusal):
            self._due.pop(word.request, None)
        elif isinstance(word, Piece) and word.finish_reason is not None and word.request in self._due:
            self._due[word.request] -= 1
            if not self._due[word.request]:
                del self._due[word.request]
        queue = self._queues.get(word.request)
        if queue is not None:
            queue.put_nowait(word)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(2**20)
    except OSError:
        return b""


def _environ() -> dict[str, str]:
    # Threads that spin for long keep those of other processes from working; without any spinning each of the hundreds
    # of products of a step waits for the kernel to wake them (15 to 30 percent of the tokens a second on two cores).
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000", **os.environ}


def _reason(ended: Ended | None, code: int | None) -> CannotServe:
    if ended is not None:
        return CannotServe(ended.error, ended.sentence)
    if code == -signal.SIGKILL:
        return CannotServe("out_of_memory", "The step process was killed, most likely for want of memory.")
    how = "closed its pipe" if code is None else f"ended with code {code}"
    return CannotServe("internal", f"The step process {how}. Standard error, of a node LOCAL_LOG, tells why.")
