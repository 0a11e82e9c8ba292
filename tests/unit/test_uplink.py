"""What a node knows of having been heard: the gateway's acknowledgement, and no receipt of the broker."""

from __future__ import annotations

import asyncio

import pytest

from wire.control import Acked
from wire.piece import Alive
from workernode.uplink import Uplink

FRAME = Alive(attempt_id="att_1", holding=True)
LINE = 1


class Deaf:
    """A producer that confirms everything, of which nobody hears anything."""

    async def send(self, payload: bytes) -> None:
        return

    def post(self, payload: bytes) -> None:
        return

    async def aclose(self) -> None:
        return


@pytest.fixture
async def link() -> Uplink:
    return Uplink("gateway-1", "node-1", Deaf(), lambda: None, lambda: LINE, lost_after_s=0.0)


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_was_pushed_is_heard_once_it_is_acknowledged_and_not_before(link: Uplink) -> None:
    link.push(FRAME, urgent=True)
    link.push(FRAME, urgent=True)
    hearing = asyncio.ensure_future(link.heard())
    await _turns()
    link.push(FRAME, urgent=True)
    await _turns()
    link.acked(Acked(line=LINE, through=1))
    await _turns()
    assert not hearing.done()
    link.acked(Acked(line=LINE, through=2))
    assert await hearing
    await link.aclose()


async def test_nothing_is_heard_by_a_gateway_that_is_gone(link: Uplink) -> None:
    link.push(FRAME, urgent=True)
    hearing = asyncio.ensure_future(link.heard())
    await _turns()
    link.echo_heard()
    assert not await hearing
    link.push(FRAME, urgent=True)
    assert not await link.heard()
    await link.aclose()


async def test_who_waits_for_a_line_that_is_closed_hears_so(link: Uplink) -> None:
    link.push(FRAME, urgent=True)
    hearing = asyncio.ensure_future(link.heard())
    await _turns()
    await link.aclose()
    assert not await hearing
