"""The load generator against the compiled upstream: what it counts must be true before what it measures can be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from bench.compiled import running
from bench.generator import Load, LoadFailed, Sample, finished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CHUNKS = 50


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if shutil.which("go") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no Go to build the benchmarks' programs")
        pytest.skip("there is no Go to build the benchmarks' programs")
    with running() as base:
        yield base.removesuffix("/v1")


@contextlib.asynccontextmanager
async def saying(head: bytes, body: bytes, asked: list[tuple[bytes, bytes]] | None = None) -> AsyncIterator[str]:
    """A server that answers each connection once, whatever it is asked; heads and bodies of that are noted."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = await reader.readuntil(b"\r\n\r\n")
        question = await reader.readexactly(int(words.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if asked is not None:
            asked.append((words, question))
        writer.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def seen(url: str, *, stream: bool, chunks: int) -> Sample:
    return await asyncio.to_thread(Load(url=url, requests=1, stream=stream, chunks=chunks).run)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pace_ms", [0.0, 0.2])
def test_every_answer_is_counted_and_timed(url: str, stream: bool, pace_ms: float) -> None:
    sample = Load(url=url, clients=3, requests=30, stream=stream, pace_ms=pace_ms).run()
    assert (sample.answers, sample.failed, sample.first_error) == (30, 0, "")
    assert sample.chunks == 30 * CHUNKS
    assert sample.first_ms is not None
    assert sample.total_ms is not None
    assert sample.first_ms.count == sample.total_ms.count == 30
    assert 0 < sample.first_ms.p50 <= sample.total_ms.p50
    assert sample.total_ms.p50 >= pace_ms * (CHUNKS - 1)
    assert sample.answers_per_s == pytest.approx(30 / sample.seconds)


@pytest.mark.parametrize("pace_ms", [0.0, 0.2])
def test_a_stamp_tells_when_a_chunk_was_sent(url: str, pace_ms: float) -> None:
    sample = Load(url=url, requests=3, stream=True, stamped=True, pace_ms=pace_ms, curve=True).run()
    assert sample.failed == 0
    assert sample.chunk_delay_ms is not None
    assert sample.chunk_delay_ms.count == 3 * CHUNKS
    assert 0 < sample.chunk_delay_ms.p50 <= sample.chunk_delay_ms.max == sample.chunk_delay_ms.curve[100] < 10_000
    assert len(sample.chunk_delay_ms.curve) == 101


def test_an_open_loop_asks_at_its_rate_and_counts_from_the_planned_moment(url: str) -> None:
    sample = Load(url=url, rate=200, requests=60, chunks=20, pace_ms=10).run()
    assert (sample.answers, sample.failed) == (60, 0)
    assert sample.total_ms is not None
    # The last begins after 295 ms and takes 200 ms more; one after the other they would take 12 s.
    assert 0.29 + 0.2 <= sample.seconds < 6


@pytest.mark.parametrize("pace_ms", [0.0, 0.2])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("drop=7", "token 8 came where 7 was due"),
        ("double=7", "token 7 came where 8 was due"),
        ("drop=49", "49 chunks instead of 50"),
        ("cut=7", "broke off after 7 chunks"),
        ("cut=49", "broke off after 49 chunks"),
    ],
)
def test_a_stream_that_is_not_whole_has_failed(url: str, fault: str, words: str, pace_ms: float) -> None:
    sample = Load(url=url, requests=4, stream=True, pace_ms=pace_ms, fault=fault).run()
    assert (sample.answers, sample.failed) == (0, 4)
    assert words in sample.first_error


@pytest.mark.parametrize("fault", ["drop=7", "double=7", "drop=49", "double=49"])
def test_a_whole_answer_that_lacks_or_doubles_a_token_has_failed(url: str, fault: str) -> None:
    sample = Load(url=url, requests=4, fault=fault).run()
    assert (sample.answers, sample.failed) == (0, 4)
    assert "token" in sample.first_error


TOKEN = b'data: {"choices": [{"delta": {"content": "token-0000 "}, "finish_reason": null}]}\n\n'
FINISH = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (TOKEN + FINISH + DONE, ""),
        (b": waiting\n\n" + TOKEN.replace(b"\n\n", b"\r\n\r\n") + FINISH + DONE, ""),
        (TOKEN + FINISH, "no [DONE]"),
        (TOKEN + DONE, "no finish_reason"),
        (TOKEN + FINISH + DONE + DONE, "after [DONE] came"),
        (TOKEN + b'data: {"error": {"message": "it broke"}}\n\n' + DONE, "it broke"),
        (FINISH + DONE, "0 chunks instead of 1"),
        (b"", "0 chunks instead of 1"),
    ],
)
async def test_a_stream_ends_with_a_reason_and_done_once(events: bytes, error: str) -> None:
    async with saying(b"200 OK", events) as server:
        sample = await seen(server, stream=True, chunks=1)
    assert (sample.answers, sample.failed) == ((0, 1) if error else (1, 0))
    assert error in sample.first_error


async def test_an_error_is_told_with_its_words() -> None:
    async with saying(b"503 Service Unavailable", b'{"error": {"message": "overloaded"}}') as server:
        sample = await seen(server, stream=False, chunks=1)
    assert sample.failed == 1
    assert sample.first_error.startswith("status 503")
    assert "overloaded" in sample.first_error


async def test_models_and_lengths_of_prompts_take_turns_and_the_key_is_shown() -> None:
    asked: list[tuple[bytes, bytes]] = []
    async with saying(b"200 OK", b"", asked) as server:
        load = Load(url=server, requests=4, model="m-%d", models=2, prompt_bytes="300,5000", key="sk-1", stream=True)
        await asyncio.to_thread(load.run)
    bodies = [json.loads(body) for _, body in asked]
    assert [(each["model"], len(each["messages"][0]["content"])) for each in bodies] == [
        ("m-0", 300),
        ("m-1", 300),
        ("m-0", 5000),
        ("m-1", 5000),
    ]
    assert all(each["stream"] is True and each["max_tokens"] == CHUNKS for each in bodies)
    assert all(b"authorization: Bearer sk-1\r\n" in head for head, _ in asked)


def test_clients_that_hang_up_are_counted_apart(url: str) -> None:
    sample = Load(url=url, clients=2, requests=6, stream=True, pace_ms=0.5, hang_up_after=5).run()
    assert (sample.answers, sample.failed, sample.hung_up, sample.chunks) == (0, 0, 6, 30)


def test_a_slow_reader_takes_the_time_that_its_rate_asks_for(url: str) -> None:
    sample = Load(url=url, requests=1, stream=True, chunk_bytes=4000, read_bytes_per_s=500_000).run()
    assert sample.failed == 0
    assert sample.seconds > 0.8 * CHUNKS * 4000 / 500_000


def test_a_timeline_tells_answers_by_their_end(url: str) -> None:
    sample = Load(url=url, requests=20, chunks=10, pace_ms=1, timeline_ms=50).run()
    assert sum(step.answers for step in sample.timeline) == 20
    assert len(sample.timeline) >= 4


def test_a_wrong_flag_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(LoadFailed, match="--seconds or --requests"):
        Load(url=url).run()


def test_a_generator_that_hangs_is_ended(url: str) -> None:
    with pytest.raises(LoadFailed, match="within"):
        finished(Load(url=url, seconds=60).start(), within_s=0.2)
