"""Gathers items for a moment, so that they are dealt with together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Gather(Generic[T]):
    """Collects items and gives them to ``issue`` as one list, ``tick_s`` after the first of them."""

    __slots__ = ("_issue", "_items", "_tick", "_tick_s")

    def __init__(self, issue: Callable[[list[T]], None], tick_s: float) -> None:
        self._issue = issue
        self._tick_s = tick_s
        self._items: list[T] = []
        self._tick: asyncio.TimerHandle | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._items

    def add(self, item: T) -> None:
        """Deal with this item on the next tick."""
        self._items.append(item)
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(self._tick_s, self.flush)

    def flush(self) -> None:
        """Deal with what was gathered now."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        items, self._items = self._items, []
        if items:
            self._issue(items)

    def cancel(self) -> None:
        """Forget what was gathered."""
        self._items.clear()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
