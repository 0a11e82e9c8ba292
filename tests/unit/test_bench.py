"""The measuring tools: what they count must be true before what they measure can be."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from bench import answer, remote_engine
from bench.load import Ask, load
from bench.report import Table
from bench.spread import Spread, percentile
from bench.upstream import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def upstream(pace_s: float = 0.0) -> AsyncIterator[str]:
    async with await listen(0, pace_s) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def broken_upstream(breaking: Callable[[bytes], bytes], *, stream: bool) -> AsyncIterator[str]:
    """Answers once per connection with a damaged body, properly framed, and closes."""
    body = breaking(b"".join(answer.events()) if stream else answer.whole_body())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 100) == 100
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


def test_a_spread_tells_median_least_and_greatest_of_its_rounds() -> None:
    assert Spread.of([3.0, 1.0, 2.00004]) == Spread(2.0, 1.0, 3.0, [3.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


@pytest.mark.parametrize(("stream", "paced"), [(False, False), (True, False), (True, True)])
async def test_every_complete_answer_is_timed(stream: bool, paced: bool) -> None:
    async with upstream() as url:
        sample = await load(Ask(url, stream, paced), clients=3, seconds=0.05)
    assert sample.failed == 0
    assert sample.answers == len(sample.first_s) >= 3
    assert all(0 < first <= total for first, total in zip(sample.first_s, sample.total_s, strict=True))
    assert sample.per_second > 0


async def test_the_first_token_of_a_paced_stream_comes_long_before_its_end() -> None:
    async with upstream(pace_s=0.002) as url:
        sample = await load(Ask(url, stream=True, paced=True), clients=1, seconds=0.0)
    assert sample.answers == 1
    assert sample.total_s[0] - sample.first_s[0] > 0.5 * 0.002 * answer.TOKENS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "breaking",
    [
        pytest.param(lambda body: body[: len(body) // 2], id="truncated"),
        pytest.param(lambda body: body[:-1], id="without its last byte"),
        pytest.param(lambda body: body.replace(b"token-17", b""), id="a token lost"),
        pytest.param(lambda body: b"", id="empty"),
    ],
)
async def test_an_incomplete_answer_counts_as_failed(breaking: Callable[[bytes], bytes], stream: bool) -> None:
    async with broken_upstream(breaking, stream=stream) as url:
        sample = await load(Ask(url, stream), clients=2, seconds=0.05)
    assert (sample.answers, sample.failed) == (0, 2)


async def test_an_answer_that_breaks_off_counts_as_failed() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sample = await load(Ask(url, stream=False), clients=1, seconds=0.05)
    assert (sample.answers, sample.failed) == (0, 1)


def test_an_error_is_never_complete() -> None:
    assert answer.is_complete(200, answer.whole_body(), stream=False)
    assert not answer.is_complete(503, answer.whole_body(), stream=False)


def test_a_table_reads_as_markdown_and_as_text() -> None:
    table = Table("Title", ["a", "bb"], [["x", "1"]])
    assert table.as_markdown() == "**Title**\n\n| a | bb |\n| --- | ---: |\n| x | 1 |"
    assert table.as_text() == "Title\na  bb\nx   1"


def test_the_recorded_cost_of_the_remote_engine_is_no_more_than_is_aimed_at() -> None:
    recorded = msgspec.json.decode(remote_engine.OUTPUT.read_bytes(), type=remote_engine.Result)
    for name, most in remote_engine.AIMS.items():
        assert 0 < recorded.cpu[name].median <= most, name
    assert "whole_ms" in remote_engine.report(recorded).as_markdown()
