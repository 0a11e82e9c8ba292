"""What a stream shows is lines: one that is under way waits for its end."""

from __future__ import annotations

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.decisions import Break
from gateway.exchange import Exchange
from process.timers import Timers
from wire.errors import StreamInterrupted


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
