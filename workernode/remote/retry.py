"""When an upstream that failed is asked again: before anything of the answer was shown, a few times, with jitter, and
never so often that trying again is itself what keeps it down."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from workernode.remote.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS_MAX = 3
WAIT_S_MIN = 0.5
WAIT_S_MAX = 8.0

BUDGET_PART = 0.1
"""Of all requests so many may be tried again."""
BUDGET_MAX = 10.0
"""So many may be tried again in a row by a node that just started, or had no failures for long."""

_jitter = wait_random_exponential(multiplier=1, min=WAIT_S_MIN, max=WAIT_S_MAX)


class RetryBudget:
    """Each request adds its part of a retry, each retry takes a whole one. Without any left, failures are handed back
    to the queue at once, where other nodes may have more luck."""

    def __init__(self) -> None:
        self._left = BUDGET_MAX

    def earn(self) -> None:
        """A request is asked for the first time."""
        self._left = min(BUDGET_MAX, self._left + BUDGET_PART)

    def spend(self) -> bool:
        """Whether one more retry is allowed, which then counts."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    *,
    budget: RetryBudget,
    remaining_s: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    notice: Callable[[Failure, float], None],
) -> T:
    """What ``attempt`` returns, at the first try or a later one. Raises the last :class:`Failure`.

    ``notice`` hears of each failure that is followed by another try, and of the seconds until then.
    """
    budget.earn()
    try:
        return await attempt()
    except Failure as failure:
        if not _worth_it(failure):
            raise
        first = [failure]

    # tenacity's bookkeeping costs as much as relaying a request, so it comes in only where something failed: the
    # failure that was had already is its first attempt.
    async def attempt_after_first() -> T:
        if first:
            raise first.pop()
        return await attempt()

    def too_late(state: RetryCallState) -> bool:
        if state.attempt_number >= ATTEMPTS_MAX or state.upcoming_sleep >= remaining_s():
            return True
        return not budget.spend()

    def tell(state: RetryCallState) -> None:
        if (failure := _failure(state)) is not None:
            notice(failure, state.upcoming_sleep)

    return await AsyncRetrying(
        retry=retry_if_exception(_worth_it), wait=_wait_s, stop=too_late, sleep=sleep, before_sleep=tell, reraise=True
    )(attempt_after_first)


def _worth_it(error: BaseException) -> bool:
    # A longer wait than ours would block a slot: the request goes back to the queue with the upstream's own figure.
    return isinstance(error, Failure) and error.again and error.wait_s <= WAIT_S_MAX


def _wait_s(state: RetryCallState) -> float:
    failure = _failure(state)
    return max(_jitter(state), failure.wait_s if failure is not None else 0.0)


def _failure(state: RetryCallState) -> Failure | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, Failure) else None
