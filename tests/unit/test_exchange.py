"""What a stream shows is lines: one that is under way waits for its end."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.requests.decisions import Break, Complete
from gateway.requests.exchange import Exchange, HungUp
from process.timers import Timers
from wire.errors import StreamInterrupted
from wire.usage import Usage


@given(st.lists(st.text("ab\n", max_size=6).map(str.encode)), st.booleans())
def test_lines_come_whole_and_once_however_they_are_cut(parts: list[bytes], at_once: bool) -> None:
    exchange, taken = Exchange(Timers(cast("asyncio.AbstractEventLoop", None))), []
    for part in parts:
        exchange.put(part)
        if not at_once:
            taken.append(exchange.take_lines())
    taken.append(exchange.take_lines())
    assert all(not lines or lines.endswith(b"\n") for lines in taken)
    rest = exchange.take()
    assert b"\n" not in rest
    assert b"".join(taken) + rest == b"".join(parts)
    assert exchange.pending_bytes == 0


async def test_half_a_line_is_no_news_but_counts_as_waiting() -> None:
    exchange = Exchange(Timers(asyncio.get_running_loop()))
    exchange.put(b'{"half')
    assert not await exchange.news(0.001)
    assert (exchange.take_lines(), exchange.pending_bytes) == (b"", 6)
    waiting = asyncio.ensure_future(exchange.news(60))
    await asyncio.sleep(0)
    exchange.put(b'":1}\n{')
    assert await waiting
    assert (exchange.take_lines(), exchange.pending_bytes) == (b'{"half":1}\n', 1)


async def test_of_a_stream_that_breaks_off_half_a_line_is_not_shown() -> None:
    exchange = Exchange(Timers(asyncio.get_running_loop()))
    exchange.put(b'{}\n{"half')
    exchange.finish(Break(StreamInterrupted().body()))
    assert await exchange.news(60)
    assert exchange.take_lines() == b"{}\n"
    assert exchange.take_lines() == b""


async def test_the_first_end_counts() -> None:
    exchange = Exchange(Timers(asyncio.get_running_loop()))
    first = Complete("stop", Usage())
    for end in (first, Break(StreamInterrupted().body())):
        exchange.finish(end)
    assert await exchange.ended() is first


async def test_of_what_nobody_will_read_nothing_is_kept() -> None:
    exchange = Exchange(Timers(asyncio.get_running_loop()))
    exchange.put(b"{}\n")
    exchange.discard()
    exchange.put(b"{}\n")
    assert (exchange.pending_bytes, exchange.take_lines(), exchange.take()) == (0, b"", b"")


@pytest.mark.parametrize("shown", [b"", b"{}\n"])
async def test_whoever_waits_for_news_for_a_client_that_has_left_hears_it_at_once(shown: bytes) -> None:
    exchange = Exchange(Timers(asyncio.get_running_loop()))
    exchange.put(shown)
    exchange.hang_up()
    async with asyncio.timeout(10):
        with pytest.raises(HungUp):
            await exchange.news(60)


async def test_a_client_that_leaves_while_its_last_part_comes_is_still_given_it() -> None:
    exchange = Exchange(Timers(asyncio.get_running_loop()))
    waiting = asyncio.ensure_future(exchange.news(60))
    await asyncio.sleep(0)
    exchange.finish(Complete("stop", Usage()))
    exchange.hang_up()
    assert await waiting
