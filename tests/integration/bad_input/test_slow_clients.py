"""Clients that send slowly, read nothing, or leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from process.http_protocol import LimitedProtocol
from tests.integration.bad_input.rows import BODY_WAIT_S, WRITE_WAIT_S, good
from tests.raw_http import JSON, Connection, post
from tests.scripted_engine import Flood
from tests.waiting import until

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_body_that_comes_byte_by_byte_is_cut_at_the_limit(place: Place) -> None:
    requests = place.watch.requests
    async with asyncio.timeout(BODY_WAIT_S + 5), Connection(place.port) as connection:
        connection.send(post(b"", *JSON, "content-length: 1000"))

        async def drip() -> None:
            while not connection.writer.is_closing():
                connection.send(b"{")
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        try:
            answer = await connection.answer()
            assert (answer.status, answer.error["code"]) == (408, "request_timeout")
            assert answer.headers["x-should-retry"] == "true"
            # And it does not go on dripping into a connection that is kept for it.
            assert await connection.closed()
        finally:
            dripping.cancel()
    assert place.watch.requests == requests
    await place.serves()


async def test_a_client_that_hangs_up_in_its_body_leaves_nothing(place: Place) -> None:
    requests = place.watch.requests
    async with Connection(place.port) as connection:
        connection.send(post(b'{"model":', *JSON, "content-length: 1000"))
        await connection.writer.drain()
    await place.serves()
    assert place.watch.requests == requests + 1


async def test_a_reader_that_takes_nothing_is_cut_and_its_slot_is_freed(place: Place) -> None:
    place.engine.steps = (Flood(32), asyncio.Event())
    # Reads nothing beyond this limit; what the kernel keeps for it is far less than the flood.
    async with Connection(place.port, limit=1024) as connection:
        connection.send(post(good(model=place.scripted, stream=True)))
        await until(lambda: place.engine.running == 1)
        await until(lambda: place.engine.running == 0, within_s=WRITE_WAIT_S + 5)
        answer = await connection.answer()
        assert not answer.whole
        assert b"[DONE]" not in answer.body
    await place.serves()


async def test_a_reader_that_vanishes_frees_its_slot_within_a_second(place: Place) -> None:
    place.engine.steps = ("one", asyncio.Event())
    async with Connection(place.port) as connection:
        connection.send(post(good(model=place.scripted, stream=True)))
        await connection.head()
        assert place.engine.running == 1
    await until(lambda: place.engine.running == 0, within_s=1)
    await place.serves()


async def test_a_reader_that_takes_nothing_of_a_whole_answer_is_cut_as_well(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written in one go, so that nothing of ours waits for it any more."""
    cuts: list[LimitedProtocol] = []
    cut = LimitedProtocol.cut

    def noted(self: LimitedProtocol) -> None:
        cuts.append(self)
        cut(self)

    monkeypatch.setattr(LimitedProtocol, "cut", noted)
    place.engine.steps = (b" " * (24 * 2**20),)
    async with Connection(place.port, limit=1024) as connection:
        connection.send(post(good(model=place.scripted)))
        await until(lambda: cuts, within_s=WRITE_WAIT_S + 5)
        assert not (await connection.answer()).whole
    assert len(cuts) == 1
    await place.serves()


async def test_the_next_answer_is_not_cut_for_what_was_unsent_of_the_one_before(place: Place) -> None:
    async with Connection(place.port, limit=1024) as connection:
        place.engine.steps = (b" " * (12 * 2**20),)
        connection.send(post(good(model=place.scripted)))
        assert (await connection.answer()).whole
        place.engine.steps = (b" " * (32 * 2**20),)
        connection.send(post(good(model=place.scripted)))
        await connection.head()
        for _ in range(8):
            assert await connection.piece(4 * 2**20)
            await asyncio.sleep(WRITE_WAIT_S / 4)
    await place.serves()


async def test_a_reader_that_is_slow_but_takes_its_whole_answer_gets_it(place: Place) -> None:
    place.engine.steps = (b" " * (24 * 2**20),)
    async with Connection(place.port, limit=1024) as connection:
        connection.send(post(good(model=place.scripted)))
        _, headers = await connection.head()
        assert headers["content-length"] == str(24 * 2**20)
        for _ in range(6):
            assert await connection.piece(4 * 2**20)
            await asyncio.sleep(WRITE_WAIT_S / 2)
