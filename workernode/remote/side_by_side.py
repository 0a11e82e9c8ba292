"""Several calls for one request: at once, and the first failure ends them all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from workernode.outcome import Answered
from workernode.remote.errors import Failure, after_first_token
from workernode.remote.usage import total

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from wire.usage import Usage
    from workernode.engine import Answer

T = TypeVar("T")


class _Shared:
    """One answer that several write: whole lines of one after whole lines of another."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._turn = asyncio.Lock()
        self.shown = False

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        async with self._turn:
            self.shown = True
            await self._answer.write(data, text_chars=text_chars)


async def all_of(calls: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """What they return, in their order. Raises what the first one raised that failed."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        # A group of tasks would cancel this one too, and Python before 3.13 counts that for good: whoever bounds the
        # time of all this could not tell the end of it from a cancellation any more.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return [task.result() for task in tasks]


async def side_by_side(
    streams: Sequence[Callable[[Answer], Coroutine[object, object, Answered]]],
    answer: Answer,
    *,
    last: Callable[[Usage], bytes] | None,
) -> Answered:
    """Streams as one, their usage added up; ``last`` makes it the line that closes the answer.

    Raises :class:`workernode.remote.errors.Failure`: once anything of it was shown, one that nobody else can mend.
    """
    shared = _Shared(answer)
    try:
        ends = await all_of([stream(shared) for stream in streams])
    except Failure as failure:
        raise after_first_token(failure) if shared.shown else failure from None
    usage = total([end.usage for end in ends])
    if last is not None:
        await answer.write(last(usage))
    return Answered(usage, ends[-1].finish_reason)
