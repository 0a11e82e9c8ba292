"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def until(condition: Callable[[], T | Awaitable[T]], *, within_s: float = 10.0, every_s: float = 0.02) -> T:
    """The first true value of ``condition``; fails after ``within_s``."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        value = condition()
        result: T = await value if inspect.isawaitable(value) else value
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(every_s)
