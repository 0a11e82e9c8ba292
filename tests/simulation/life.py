"""A simulated process: the callbacks, clock and connections that are its own, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.virtual_loop import OWNER, WORLD

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.virtual_loop import VirtualLoop

T = TypeVar("T")


class Life:
    """One start of one process. ``skew_ms`` is how much its wall clock is ahead of the world's."""

    def __init__(self, loop: VirtualLoop, role: str, name: str, skew_ms: int = 0) -> None:
        self.role, self.name, self.skew_ms = role, name, skew_ms
        self.alive = True
        self.ended = asyncio.Event()
        """Set with its end, in whatever way."""
        self.died_at: float | None = None
        """Loop time of its death, unless it ended in order."""
        self.frozen_until = 0.0
        self.frozen_s = 0.0
        """For how long, all in all."""
        self.slept_s = 0.0
        self.crash: tuple[str, int] | None = None
        """At which pass of which crash point it dies."""
        self.on_death: list[Callable[[], None]] = []
        """What the world notices of its death; called in the world's name, after the callback that died."""
        self._loop = loop
        self._withheld: list[asyncio.Handle] = []
        self._buried = False
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)

    def __repr__(self) -> str:
        return f"<Life {self.name} alive={self.alive}>"

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return self.frozen_until > self._loop.now

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run it as this process's own."""
        return self._loop.create_task(coroutine, name=f"{self.name} {name}", context=self._context.copy())

    def soon(self, callback: Callable[..., None], *args: Any) -> None:
        """Call it as this process's own."""
        self._loop.call_soon(callback, *args, context=self._context)

    def admits(self, handle: asyncio.Handle) -> bool:
        """A dead one runs nothing any more, not even what should clean up; a frozen one runs it later."""
        if self._buried or (self.alive and not self.frozen):
            return True
        self._withheld.append(handle)
        return False

    def die(self) -> None:
        """As SIGKILL. The callback that calls this runs on to its end, but reaches nobody."""
        if self.alive:
            self.alive = False
            self.died_at = self._loop.now
            self.ended.set()
            for notice in self.on_death:
                self._loop.call_soon(notice, context=WORLD)

    def end(self) -> None:
        """It has ended in order; whatever it left behind runs no more."""
        self.alive = False
        self.ended.set()

    def freeze(self, seconds: float) -> None:
        """As SIGSTOP, and SIGCONT after so long."""
        self.frozen_until = self._loop.now + seconds
        self.frozen_s += seconds
        self._loop.call_at(self.frozen_until, self._release, context=WORLD)

    def suspend(self, seconds: float) -> None:
        """As a machine that sleeps so long: its loop's clock stands still meanwhile, and the wall clock does not."""
        self.freeze(seconds)
        self.slept_s += seconds
        self._loop.put_off(self, seconds)

    async def silence(self) -> Any:
        """What the outside answers to a dead process."""
        if self._buried:
            raise asyncio.CancelledError
        await self._loop.create_future()

    def pass_by(self, point: str) -> None:
        """A crash point was reached (:func:`process.crash.point`)."""
        if self.crash is not None and self.crash[0] == point:
            self.crash = (point, self.crash[1] - 1)
            if self.crash[1] == 0:
                self.die()

    def bury(self) -> None:
        """The world has ended: let the clean-up of its tasks run, which reaches nobody, so that nothing of it is left
        to the garbage collector."""
        self.alive, self._buried = False, True
        self._release()

    def _release(self) -> None:
        if self.alive or self._buried:
            withheld, self._withheld = self._withheld, []
            for handle in withheld:
                self._loop.again(handle)
