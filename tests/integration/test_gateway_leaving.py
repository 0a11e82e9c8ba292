"""A gateway that is told to stop: what can end in time ends well, and the rest with an error that a client can read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.fake_upstream import FakeUpstream, oracle_text
from tests.integration.test_main_job import PUBLIC, asked, client_of, known, streamed, whole
from tests.raw_http import JSON, Connection, post
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.in_process import InProcessFleet, Running
    from tests.processes import Process


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


async def events(gateway: Running | Process, model: str, prompt: str) -> list[str]:
    """The data of a stream's events, to its end."""
    body = asked(model, prompt) | {"stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        text = await response.text()
        return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


async def test_what_can_end_in_time_does_and_the_rest_gets_an_error(
    fleet: InProcessFleet, upstream: FakeUpstream
) -> None:
    gateway = await fleet.gateway(STOP_GRACE_S="3")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    url = f"{gateway.url}/v1/chat/completions"
    async with client_of(gateway) as client, aiohttp.ClientSession() as session:
        short = "short tokens=40 delay-between=0.02"
        good = [
            asyncio.ensure_future(streamed(client, fleet.model, short)),
            asyncio.ensure_future(whole(client, fleet.model, "brief tokens=3 delay-first=0.8")),
        ]
        endless = asyncio.ensure_future(events(gateway, fleet.model, "endless tokens=9999 delay-between=0.05"))
        waiting = asyncio.ensure_future(session.post(url, json=asked(fleet.model, "hangs hang")))
        await until(lambda: upstream.running == 4)
        began = asyncio.get_running_loop().time()
        ending = asyncio.ensure_future(gateway.end())
        await until(lambda: _refused(session, url, fleet.model))
        async with session.post(url, json=asked(fleet.model, "late")) as late:
            assert (late.status, late.headers["connection"]) == (503, "close"), "others are there to be asked"
        assert await asyncio.gather(*good) == [oracle_text(asked(fleet.model, short)), "brief t0 t1 t2"]
        assert not waiting.done()
        *chunks, last = await endless
        assert json.loads(last)["error"]["code"] == "shutting_down"
        assert chunks
        assert "[DONE]" not in chunks
        async with await waiting as response:
            assert (response.status, response.headers["retry-after"]) == (503, "1")
            assert (await response.json())["error"]["code"] == "shutting_down"
        await ending
        assert asyncio.get_running_loop().time() - began < 6.5
    await until(lambda: upstream.running == 0)


async def test_a_lame_duck_answers_whoever_comes_and_has_them_come_back_elsewhere(
    fleet: InProcessFleet, upstream: FakeUpstream
) -> None:
    gateway = await fleet.gateway(LAME_DUCK_S="3")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    url, body = f"{gateway.url}/v1/chat/completions", asked(fleet.model, "brief tokens=1")
    async with aiohttp.ClientSession() as old, aiohttp.ClientSession() as new:
        async with old.post(url, json=body) as before:
            assert "connection" not in before.headers
        ending = asyncio.ensure_future(gateway.end())
        await until(lambda: _is_unready(new, gateway.url))
        for session in (old, new):  # on a connection that was open, and on another one
            async with session.post(url, json=body) as response:
                assert (response.status, response.headers["connection"]) == (200, "close")
        await until(lambda: _refused_or_gone(new, url, fleet.model))
    await ending


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "does_not_come"])
async def test_a_body_that_is_awaited_when_the_gateway_leaves_is_refused_as_what_comes_later_is(
    fleet: InProcessFleet, upstream: FakeUpstream, comes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await fleet.gateway(STOP_GRACE_S="2")
    await fleet.node(**PUBLIC, API_URL=upstream.url)
    await known(gateway, fleet.model)
    url, body = f"{gateway.url}/v1/chat/completions", json.dumps(asked(fleet.model, "hangs hang")).encode()
    async with Connection(gateway.port) as slow, aiohttp.ClientSession() as session:
        slow.send(post(b"", *JSON, f"content-length: {len(body)}", "expect: 100-continue"))
        assert (await slow.head())[0] == 100
        ending = asyncio.ensure_future(gateway.end())
        await until(lambda: _refused_or_gone(session, url, fleet.model))
        if comes:
            slow.send(body)
        answer = await slow.answer()
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        assert answer.error["code"] == "shutting_down"
    await ending
    assert "Traceback" not in caplog.text


async def _is_unready(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(f"{url}/readyz") as response:
        return response.status == 503


async def _refused_or_gone(session: aiohttp.ClientSession, url: str, model: str) -> bool:
    try:
        return await _refused(session, url, model)
    except aiohttp.ClientConnectionError:
        return True


async def _refused(session: aiohttp.ClientSession, url: str, model: str) -> bool:
    """Whether the gateway leaves already: it says so to who comes now."""
    async with session.post(url, json=asked(model, "late tokens=1")) as response:
        return response.status == 503 and (await response.json())["error"]["code"] == "shutting_down"
