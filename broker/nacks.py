"""Gathers the messages a consumer hands back, so that they are handed back together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class NackGather(Generic[T]):
    """Collects items and gives them to ``issue`` as one list, ``tick_s`` after the first of them.

    Pulsar's client restarts its redelivery clock with each nack, so a steady trickle of them would postpone
    every redelivery without end. Issued on a tick longer than the redelivery delay they cannot.
    """

    __slots__ = ("_issue", "_items", "_tick", "_tick_s")

    def __init__(self, issue: Callable[[list[T]], None], tick_s: float) -> None:
        self._issue = issue
        self._tick_s = tick_s
        self._items: list[T] = []
        self._tick: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Hand this item back on the next tick."""
        self._items.append(item)
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(self._tick_s, self._flush)

    def cancel(self) -> None:
        """Forget what was gathered."""
        self._items.clear()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _flush(self) -> None:
        self._tick = None
        items, self._items = self._items, []
        self._issue(items)
