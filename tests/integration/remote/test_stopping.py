"""Ending an answer, and an engine."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from tests.remote_engine import KEY, Recorder, job, started
from workernode.engine import EngineUnusable
from workernode.outcome import Answered, Later, Refused
from workernode.remote.engine import RemoteEngine
from workernode.remote.exchange import Exchange

if TYPE_CHECKING:
    from tests.fake_upstream import FakeUpstream


@pytest.mark.parametrize(
    ("words", "stream", "shown"),
    [
        ("hang", False, False),
        ("hang", True, False),
        ("delay-first=30", False, False),
        ("delay-first=30", True, False),
        ("hang-after=1", False, False),
        ("hang-after=3", True, True),
        ("tokens=1000 delay-between=0.05", True, True),
    ],
)
async def test_cancelling_closes_the_upstream_connection_within_a_second(
    upstream: FakeUpstream, engine: RemoteEngine, words: str, stream: bool, shown: bool
) -> None:
    answer = Recorder()
    task = asyncio.create_task(engine.answer(job(f"r1 {words}", stream=stream), answer))
    await upstream.until(lambda u: u.running == 1)
    if shown:
        await answer.written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await task
    await upstream.until(lambda u: u.running == 0 and u.aborted == 1, within_s=1)


async def test_cancelling_between_two_tries_stops_them(upstream: FakeUpstream) -> None:
    waiting = asyncio.Event()

    async def wait(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    engine = RemoteEngine(api_url=upstream.url, api_key=lambda: KEY, upstream_model="m", slots=1, sleep=wait)
    await engine.start()
    task = asyncio.create_task(engine.answer(job("r1 status=503"), Recorder()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.aclose()
    assert len(upstream.requests) == 1


async def test_an_error_of_the_reader_is_not_taken_for_one_of_the_upstream(
    upstream: FakeUpstream, engine: RemoteEngine
) -> None:
    class Broken(Recorder):
        async def write(self, data: bytes, *, text_chars: int = 0) -> None:
            raise error

    for error in (ConnectionResetError("the link is gone"), TimeoutError("the link is gone")):
        for stream in (False, True):
            with pytest.raises(type(error), match="the link is gone"):
                await engine.answer(job("r1", stream=stream), Broken())
    assert len(upstream.requests) == 4


async def test_starting_does_not_call_the_upstream_and_closing_twice_is_harmless(upstream: FakeUpstream) -> None:
    engine = RemoteEngine(api_url=upstream.url, api_key=lambda: KEY, upstream_model="m", slots=1)
    await engine.aclose()
    await engine.start()
    assert engine.details.provider == "127.0.0.1"
    assert engine.details.upstream_model == "m"
    await engine.aclose()
    await engine.aclose()
    assert upstream.requests == []


async def test_a_wrong_api_url_makes_the_engine_unusable_with_a_sentence() -> None:
    engine = RemoteEngine(api_url="ftp://x", api_key=lambda: None, upstream_model="m", slots=1)
    with pytest.raises(EngineUnusable, match="API_URL must begin with http"):
        await engine.start()


@pytest.mark.parametrize(
    ("words", "stream", "kind"),
    [
        ("tokens=3", False, Answered),
        ("tokens=3", True, Answered),
        ("hang-after=3", True, Refused),
        ("spaces=1 delay-between=20", False, Later),
    ],
)
async def test_what_has_ended_leaves_nothing_behind(
    upstream: FakeUpstream, words: str, stream: bool, kind: type
) -> None:
    """A timer would hold the prompt for as long as an answer may take, and an exception for ever."""
    async with started(upstream.url, between_tokens_timeout_s=0.3) as engine:
        assert isinstance(await engine.answer(job(f"r1 {words}", stream=stream, own="mark"), Recorder()), kind)
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Exchange and b'"own":"mark"' in each._sent]
