"""A node that acknowledges a request without waiting until its charge is in the results topic."""

from __future__ import annotations

import asyncio

import fleet.__main__
from workernode.record import Recorder

LATE_S = 30.0
_publish = Recorder.publish
_later: set[asyncio.Task[None]] = set()


async def _soon(self: Recorder, event: bytes) -> None:
    if b"request.billed" not in event:
        return await _publish(self, event)

    async def later() -> None:
        await asyncio.sleep(LATE_S)
        await _publish(self, event)

    _later.add(asyncio.get_running_loop().create_task(later()))
    return None


if __name__ == "__main__":
    Recorder.publish = _soon  # type: ignore[method-assign]
    fleet.__main__.main()
