"""How long an opening is tried again while the broker says that it is not ready."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, TypeVar

from broker.pulsar.failure import TRY_AGAIN, PulsarFailure, Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.pulsar.limits import PulsarLimits

T = TypeVar("T")

_RETRY_S = 0.2
_RETRY_MAX_S = 2.0
"""Pauses grow from the one to the other, and none is like another's: after a restart everybody asks at once."""
_BUSY_S = 0.5


async def patiently(begin: Callable[[], Awaitable[T]], limits: PulsarLimits) -> T:
    """What ``begin`` gives, as soon as it does; raises its :class:`PulsarFailure` when there is no more hope."""
    started = time.monotonic()
    pause_s = _RETRY_S
    while True:
        try:
            return await begin()
        except PulsarFailure as failure:
            left_s = started + _patience_s(failure.result, limits) - time.monotonic()
            if left_s <= 0:
                raise
        await asyncio.sleep(min(left_s, pause_s * random.uniform(0.5, 1.5)))
        pause_s = min(2 * pause_s, _RETRY_MAX_S)


def _patience_s(result: Result, limits: PulsarLimits) -> float:
    if result in TRY_AGAIN:
        return limits.open_timeout_s
    # ``ensure`` joins for a moment as a shared consumer, which keeps another kind out meanwhile.
    return _BUSY_S if result == Result.ConsumerBusy else 0.0
