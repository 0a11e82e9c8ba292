"""An event loop on a clock of its own: time stands still while anything is ready, then jumps to the next timer."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN_S = 1_000.0
"""Loop time at the start."""


class Owner(Protocol):
    """A simulated process, to which every callback in its context belongs."""

    @property
    def slept_s(self) -> float:
        """For how long its machine was suspended: its loop's clock is so far behind the world's."""

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether this callback may run now. One that may not is the owner's: nobody runs it later by himself."""


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)
"""Whose code is running; None: the world's own. Tasks and timers inherit it as they inherit every context."""
WORLD = Context()
"""The context of the world's own callbacks."""


class Stuck(Exception):
    """Nothing is ready and no timer is set: everybody would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs callbacks in the order in which they became due, the same in every run. Knows no threads."""

    def __init__(self) -> None:
        self.now = BEGIN_S
        self.tasks: list[asyncio.Task[Any]] = []
        """All that were ever made. The loop itself keeps none: one of a dead process would fall to the garbage
        collector at some moment, which would run its clean-up."""
        self._count = itertools.count()
        super().__init__(_Clockwork(self))

    def time(self) -> float:
        return self.now - _slept_s(None)

    def create_task(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = super().create_task(*args, **kwargs)
        self.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when + _slept_s(context), callback, args, self, context)
        timer.number = next(self._count)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now - _slept_s(context) + delay, callback, *args, context=context)

    def put_off(self, owner: Owner, seconds: float) -> None:
        """All timers of an owner are due so much later."""
        for timer in self._scheduled:
            if timer._context.get(OWNER) is owner:
                timer._when += seconds
        heapq.heapify(self._scheduled)

    def again(self, handle: asyncio.Handle) -> None:
        """Run a callback that its owner did not admit, unless it was cancelled meanwhile."""
        self._ready.append(handle)

    def run_in_executor(self, *_: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("There are no threads in a simulation.")

    # What typeshed does not show of asyncio.base_events.BaseEventLoop.
    _ready: Any
    _scheduled: list[_Timer]


class _Clockwork(selectors.SelectSelector):
    """Looks at no socket: to wait is to put the clock forward."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck
        if timeout > 0:
            self._loop.now = self._loop._scheduled[0]._when
        return []


class _Handle(asyncio.Handle):
    __slots__ = ()
    _context: Context

    def _run(self) -> None:
        owner = self._context.get(OWNER)
        if owner is None or owner.admits(self):
            super()._run()


class _Timer(asyncio.TimerHandle):
    __slots__ = ("number",)
    number: int
    _context: Context
    _when: float
    _scheduled: bool

    def __lt__(self, other: object) -> bool:
        # First come first served at the same time too: a heap alone keeps no order among equals.
        if self._when == other._when:  # type: ignore[attr-defined]
            return self.number < other.number  # type: ignore[attr-defined, no-any-return]
        return self._when < other._when  # type: ignore[attr-defined, no-any-return]

    def _run(self) -> None:
        owner = self._context.get(OWNER)
        if owner is None or owner.admits(self):
            super()._run()


def _slept_s(context: Context | None) -> float:
    """Of the owner of this context; None: the running code's."""
    owner = OWNER.get() if context is None else context.get(OWNER)
    return owner.slept_s if owner is not None else 0.0
