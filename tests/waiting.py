"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


async def until(condition: Callable[[], Any], *, within_s: float = 10.0, every_s: float = 0.02) -> Any:
    """The first true value of ``condition``, which may be a coroutine function; fails after ``within_s``."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        value = condition()
        result = await value if inspect.isawaitable(value) else value
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(every_s)


def pauses(monkeypatch: pytest.MonkeyPatch, *, at_most: int) -> list[float]:
    """For how many seconds each :func:`asyncio.sleep` from here on was to be. None is waited for; the last that may be
    cancels its task."""
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == at_most:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", pause)
    return paused
