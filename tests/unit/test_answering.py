"""How an answer is shown: one body, or events, and what becomes of a client that does not take them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from gateway.http.answering import DONE, PING, Response, answer_stream, answer_whole, as_events
from gateway.requests.decisions import Break, Complete
from gateway.requests.exchange import Exchange, HungUp
from wire.errors import ModelNotFound, Unauthorized
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE_WAIT_S = 30.0
HOLD_S = 10.0
KEEP_ALIVE_S = 15.0
END = Complete("stop", Usage())
REFUSED = Break(ModelNotFound().body())


class Timers:
    """Timers of a clock that goes on by hand."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running: list[Timer] = []

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self, seconds, call)
        self.running.append(timer)
        return timer

    def ring(self, *seconds: float) -> None:
        """Let those that run end; they must be of so many seconds each."""
        assert [each.seconds for each in self.running] == list(seconds)
        for each in list(self.running):
            each.cancel()
            each.call()


class Timer:
    def __init__(self, timers: Timers, seconds: float, call: Callable[[], None]) -> None:
        self._timers, self.seconds, self.call = timers, seconds, call

    def cancel(self) -> None:
        if self in self._timers.running:
            self._timers.running.remove(self)


class Client:
    """Its connection, and what came over it. While it is not ``reading``, a write waits."""

    def __init__(self, *, gone: bool = False) -> None:
        self.timers = cast("Any", Timers())
        self.exchange = Exchange(self.timers)
        self.on_gone: Callable[[], None] | None = None
        self.gone = gone
        self.unsent, self.requests = 0, 1
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.whole = False
        self.reading = asyncio.Event()
        self.reading.set()
        connection: Any = self
        self.response = Response(self.exchange, connection, self._send, [(b"x-own", b"1")], self.timers, WRITE_WAIT_S)

    def cut(self) -> None:
        self.gone = True
        self.reading.set()
        if self.on_gone is not None:
            self.on_gone()

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        assert message["type"] == "http.response.body"
        assert self.status
        await self.reading.wait()
        self.parts.append(message["body"])
        self.whole = not message["more_body"]

    def streamed(self) -> asyncio.Task[None]:
        """A stream to it, as far as it comes without news."""
        answering = answer_stream(
            self.exchange, self.response, lambda: PING, status_hold_s=HOLD_S, keep_alive_s=KEEP_ALIVE_S
        )
        return asyncio.ensure_future(answering)


async def rest() -> None:
    """Everybody does what there is to do."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_whole_answer_is_one_body_of_known_length(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((5.0, 6.2346))
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    client = Client()
    client.exchange.put(b'{"a":')
    client.exchange.put(b"1}")
    client.exchange.finish(END)
    await answer_whole(client.exchange, client.response)
    assert (client.status, client.parts, client.whole) == (200, [b'{"a":1}'], True)
    assert client.headers[b"content-length"] == b"7"
    assert client.headers[b"content-type"] == b"application/json"
    assert (client.headers[b"openai-version"], client.headers[b"x-own"]) == (b"2020-10-01", b"1")
    assert client.headers[b"openai-processing-ms"] == b"1235"
    assert (client.response.started, client.response.status) == (True, 200)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_anything_was_shown_has_its_status_and_tells_of_no_success(stream: bool) -> None:
    client = Client()
    if not stream:
        client.exchange.put(b"half an ans")
    client.exchange.finish(REFUSED)
    await (client.streamed() if stream else answer_whole(client.exchange, client.response))
    assert (client.status, client.whole, len(client.parts)) == (404, True, 1)
    assert json.loads(client.parts[0])["error"]["code"] == "model_not_found"
    assert client.headers[b"content-length"] == b"%d" % len(client.parts[0])
    assert client.headers[b"cache-control"] == b"no-store"
    assert (client.headers[b"content-type"], client.headers[b"x-own"]) == (b"application/json", b"1")
    assert not {b"openai-processing-ms", b"openai-version", b"www-authenticate"} & client.headers.keys()


async def test_only_who_needs_a_key_is_told_how_to_show_one() -> None:
    client = Client()
    await client.response.error(Unauthorized().body())
    assert (client.status, client.headers[b"www-authenticate"]) == (401, b"Bearer")


async def test_a_stream_opens_with_its_first_part_and_ends_with_done() -> None:
    client = Client()
    answering = client.streamed()
    await rest()
    assert not client.response.started
    client.exchange.put(b'{"a":1}\n{"b"')
    await rest()
    assert (client.status, client.parts, client.whole) == (200, [b'data: {"a":1}\n\n'], False)
    assert client.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (client.headers[b"cache-control"], client.headers[b"x-accel-buffering"]) == (b"no-cache", b"no")
    client.exchange.put(b':2}\n{"c":3}\n')
    client.exchange.finish(END)
    await answering
    assert client.parts[1:] == [b'data: {"b":2}\n\ndata: {"c":3}\n\n' + DONE]
    assert client.whole
    assert client.timers.running == []


async def test_a_stream_without_any_part_still_ends_with_done() -> None:
    client = Client()
    client.exchange.finish(END)
    await client.streamed()
    assert (client.status, client.parts, client.whole) == (200, [DONE], True)


async def test_a_stream_of_which_nothing_comes_is_opened_and_kept_alive_by_comments() -> None:
    client = Client()
    answering = client.streamed()
    for held_s in (HOLD_S, KEEP_ALIVE_S, KEEP_ALIVE_S):
        await rest()
        client.timers.ring(held_s)
    await rest()
    assert (client.status, client.parts) == (200, [PING] * 3)
    client.exchange.finish(REFUSED)
    await answering
    assert client.parts[3].startswith(b'data: {"error":{')
    assert client.parts[3].endswith(b"}}\n\n")
    assert client.whole


@pytest.mark.parametrize("end", [END, REFUSED])
async def test_what_is_there_with_the_end_goes_before_it_in_one_part(end: Complete | Break) -> None:
    client = Client()
    client.exchange.put(b"{}\n")
    client.exchange.finish(end)
    await client.streamed()
    assert client.status == 200
    assert client.parts[0].startswith(b"data: {}\n\ndata: ")
    assert (client.parts[0].endswith(DONE), len(client.parts)) == (end is END, 1)


async def test_a_client_that_does_not_take_a_part_in_time_is_cut() -> None:
    client = Client()
    client.reading.clear()
    answering = client.streamed()
    client.exchange.put(b"{}\n")
    await rest()
    client.timers.ring(WRITE_WAIT_S)
    with pytest.raises(HungUp):
        await answering
    assert client.gone


async def test_a_client_that_does_not_take_the_end_in_time_has_not_had_it() -> None:
    client = Client()
    await client.response.open_stream()
    client.reading.clear()
    ending = asyncio.ensure_future(client.response.end(DONE))
    await rest()
    client.timers.ring(WRITE_WAIT_S)
    with pytest.raises(HungUp):
        await ending


@pytest.mark.parametrize("early", [True, False])
async def test_a_client_that_goes_is_heard_of_until_its_response_is_closed(early: bool) -> None:
    client = Client(gone=early)
    answering = client.streamed()
    await rest()
    if not early:
        client.cut()
    with pytest.raises(HungUp):
        await answering
    assert not client.response.started
    client.response.close()
    assert client.on_gone is None


async def test_an_end_that_is_not_taken_is_seen_out_as_long_as_something_goes() -> None:
    client = Client()
    client.unsent = 100
    await client.response.open_stream()
    await client.response.end(b"x")
    for client.unsent in (99, 1):
        client.timers.ring(WRITE_WAIT_S)
        assert not client.gone
    client.timers.ring(WRITE_WAIT_S)
    assert client.gone
    assert client.timers.running == []


@pytest.mark.parametrize(("unsent", "requests"), [(0, 1), (100, 2)], ids=["it_was_taken", "another_one_was_asked_for"])
async def test_an_end_that_was_taken_is_watched_no_longer(unsent: int, requests: int) -> None:
    client = Client()
    client.unsent = 100
    await client.response.open_stream()
    await client.response.end(b"x")
    client.unsent, client.requests = unsent, requests
    client.timers.ring(WRITE_WAIT_S)
    assert (client.gone, client.timers.running) == (False, [])


async def test_nothing_is_seen_out_where_more_follows_or_all_is_sent() -> None:
    client = Client()
    await client.response.open_stream()
    await client.response.end(b"x")
    client.unsent = 100
    await client.response.write(b"x")
    assert client.timers.running == []


def test_lines_become_events_and_nothing_becomes_none() -> None:
    assert as_events(b"") == b""
    assert as_events(b"{}\n") == b"data: {}\n\n"
    assert as_events(b"{}\n[]\n") == b"data: {}\n\ndata: []\n\n"
