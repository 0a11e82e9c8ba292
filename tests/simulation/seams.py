"""Everything of the product that a simulation replaces, in one list. All else runs as it is.

* The wall clock and stop watches: :data:`CLOCKS`. Loop time is the loop's own.
* Random ids and the host's name, so that a seed is the same everywhere.
* Crash points, which kill the simulated process instead of the real one.
* Ports and HTTP servers: a gateway's application is handed to simulated clients; health, metrics and management's API
  are served to nobody.
* A node's engine, and management's database with its API.

:func:`tests.simulation.test_seams` proves that no other clock and no other dice are read on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import broker.memory
import gateway.http.answering
import gateway.presence
import gateway.reception
import gateway.role
import management.ledger.consumer
import management.metrics
import management.role
import process.crash
import process.identity
import workernode.role
from gateway.requests.conversations import Conversations
from management.fleet.nodes import NodeRegistry
from tests.simulation.virtual_loop import OWNER
from workernode.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from random import Random
    from types import ModuleType

    from starlette.types import ASGIApp

    from management.ledger.journal import Entry, Written
    from tests.simulation.life import Life
    from tests.simulation.virtual_loop import VirtualLoop
    from workernode.engine import Engine

EPOCH_S = 1_750_000_000
"""The world's wall clock when its loop's clock is 0."""

CLOCKS: tuple[tuple[ModuleType, str], ...] = (
    (process.identity, "time"),
    (broker.memory, "time"),
    (gateway.http.answering, "time"),
    (gateway.presence, "time"),
    (gateway.reception, "time"),
    (gateway.role, "time"),
    (management.ledger.consumer, "time"),
    (management.metrics, "time"),
)
"""Modules that read a clock of their own, and by which name."""


class Stage(Protocol):
    """What the replaced parts need of the world."""

    @property
    def loop(self) -> VirtualLoop: ...

    @property
    def ids(self) -> Random:
        """The dice for ids."""

    def opened(self, life: Life, app: ASGIApp | None) -> None:
        """A gateway takes connections, or none any more."""

    async def finished(self, life: Life, within_s: float) -> None:
        """Return when the requests that a gateway has are answered, or after so long."""

    def owns(self, life: Life, part: Conversations | Node) -> None:
        """The part of a process that can be asked what is under way."""

    def engine(self, life: Life) -> Engine:
        """For a node."""

    async def commit(self, life: Life, entries: Sequence[Entry]) -> Written:
        """Write a batch into management's ledger."""


class _Clock:
    """Stands for the module ``time``."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time_ns(self) -> int:
        owner = OWNER.get()
        skew_ms = owner.skew_ms if owner is not None else 0  # type: ignore[attr-defined]
        return round((EPOCH_S + self._loop.now) * 1e9) + skew_ms * 1_000_000

    def time(self) -> float:
        return self.time_ns() / 1e9

    def perf_counter(self) -> float:
        return self._loop.time()

    monotonic = perf_counter


class _Dice:
    """Stands for the module ``secrets``."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()


class _Host:
    """Stands for the module ``socket``."""

    def gethostname(self) -> str:
        return "host"


class _NoDatabase:
    """Stands for the module ``store.database`` and for an engine of it."""

    def open(self, _: str) -> _NoDatabase:
        return self

    async def dispose(self) -> None:
        return


@contextlib.contextmanager
def replaced(stage: Stage) -> Iterator[None]:
    """Replace all of it while the block runs."""
    clock = _Clock(stage.loop)
    changes: list[tuple[ModuleType, str, Any]] = [
        *((module, name, clock) for module, name in CLOCKS),
        (process.identity, "secrets", _Dice(stage.ids)),
        (process.identity, "socket", _Host()),
        (process.crash, "point", lambda name: _owner().pass_by(name)),
        *_gateways(stage),
        *_nodes(stage),
        *_managements(stage, clock),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _gateways(stage: Stage) -> list[tuple[ModuleType, str, Any]]:
    @contextlib.asynccontextmanager
    async def serving(app: ASGIApp, _: None, *, stop_grace_s: float, **__: Any) -> AsyncIterator[None]:
        life = _owner()
        stage.opened(life, app)
        try:
            yield
        finally:
            stage.opened(life, None)
            await stage.finished(life, stop_grace_s)

    def conversations(*args: Any, **kwargs: Any) -> Conversations:
        made = Conversations(*args, **kwargs)
        stage.owns(_owner(), made)
        return made

    module = gateway.role
    return [(module, "bind", _bind), (module, "serving", serving), (module, "Conversations", conversations)]


def _nodes(stage: Stage) -> list[tuple[ModuleType, str, Any]]:
    @contextlib.asynccontextmanager
    async def health_server(*_: Any) -> AsyncIterator[None]:
        yield

    def node(*args: Any, **kwargs: Any) -> Node:
        made = Node(*args, **kwargs)
        stage.owns(_owner(), made)
        return made

    return [
        (workernode.role, "bind", _bind),
        (workernode.role, "health_server", health_server),
        (workernode.role, "Node", node),
        (workernode.role, "_engine", lambda _settings: stage.engine(_owner())),
    ]


def _managements(stage: Stage, clock: _Clock) -> list[tuple[ModuleType, str, Any]]:
    @contextlib.asynccontextmanager
    async def serving(*_: Any, **__: Any) -> AsyncIterator[None]:
        yield

    async def nothing(*_: Any) -> None:
        await asyncio.sleep(0)

    async def write(_: Any, entries: Sequence[Entry], *__: Any) -> Written:
        return await stage.commit(_owner(), entries)

    module = management.role
    return [
        (module, "bind", lambda *_: _Listener()),
        (module, "serving", serving),
        (module, "application", lambda *_: None),
        (module, "database", _NoDatabase()),
        *((module, name, nothing) for name in ("upgrade", "open_books", "keep")),
        (module, "write", write),
        (module, "NodeRegistry", lambda **settings: NodeRegistry(**settings, clock=clock.monotonic)),
    ]


class _Listener:
    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 0


def _bind(*_: Any) -> None:
    """Nobody listens."""


def _owner() -> Life:
    owner = OWNER.get()
    assert owner is not None, "only simulated processes run this"
    return owner  # type: ignore[return-value]
