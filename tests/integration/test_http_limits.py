"""What a connection may do before there is a request: over raw sockets, on the server that every role uses."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from broker.memory import MemoryBroker, MemoryServer
from process.http import bind, serving
from process.http_protocol import PIPELINE_MAX
from tests.in_process import InProcessFleet
from tests.raw_http import Connection, get, post
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

HEAD_BYTES_MAX = 64 * 1024


class Application:
    """Answers with the length of the body once ``may_answer`` is set, and remembers what reached it."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
        await self.may_answer.wait()
        body = b"%d" % length
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[Application, int]]:
    app = Application()
    listener = bind("127.0.0.1", 0, "PORT")
    port = listener.getsockname()[1]
    async with asyncio.timeout(20), serving(app, listener, stop_grace_s=1.0, **options):
        yield app, port


def of_size(size: int) -> bytes:
    """A request whose head has this many bytes."""
    bare = get("/", "x-long: ")
    return bare.replace(b"x-long: ", b"x-long: " + b"x" * (size - len(bare)))


async def refused(connection: Connection, status: int, code: str) -> None:
    answer = await connection.answer()
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error["type"] == "invalid_request_error"
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert await connection.closed()


async def test_a_head_as_long_as_it_may_be_is_served() -> None:
    async with served() as (_, port), Connection(port) as connection:
        for _ in range(2):
            connection.send(of_size(HEAD_BYTES_MAX))
            assert (await connection.answer()).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        of_size(HEAD_BYTES_MAX + 1),
        of_size(5_000_000),
        of_size(HEAD_BYTES_MAX * 2)[:-4],
        get("/" + "x" * HEAD_BYTES_MAX),
        get("/", *(f"x-{i}: a" for i in range(10_000))),
        b"\r\n" * HEAD_BYTES_MAX,
    ],
    ids=["a_byte_more", "megabytes", "no_end", "a_long_path", "many_headers", "empty_lines"],
)
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_a_longer_head_is_refused_in_openais_shape(request_: bytes, kept: bool) -> None:
    async with served() as (app, port), Connection(port) as connection:
        if kept:
            connection.send(get("/"))
            assert (await connection.answer()).status == 200
        connection.send(request_)
        await refused(connection, 431, "headers_too_large")
        assert len(app.scopes) == kept


async def test_a_large_body_is_not_counted_as_head() -> None:
    async with served(head_bytes_max=1024) as (_, port), Connection(port) as connection:
        for _ in range(3):
            connection.send(post(b"x" * 300_000))
            assert (await connection.answer()).body == b"300000"


H2C = ("connection: Upgrade, HTTP2-Settings, close", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA")


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("header", "body"),
    [("content-length: 5", b"12345"), ("transfer-encoding: chunked", b"3\r\n123\r\n2\r\n45\r\n0\r\n\r\n")],
)
async def test_an_offer_to_speak_http_2_is_not_taken_and_its_request_is_served(
    header: str, body: bytes, split: bool
) -> None:
    """As Java's client makes it with every request, unless it is told otherwise."""
    async with served() as (app, port), Connection(port) as connection:
        connection.send(post(b"", *H2C, header))
        if split:
            await until(lambda: app.scopes)
        connection.send(body)
        answer = await connection.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"5", "close")
        assert await connection.closed()
    (scope,) = app.scopes
    names = [name for name, _ in scope["headers"]]
    assert sorted(names) == sorted([b"host", b"connection", header.partition(":")[0].encode()])


async def test_after_a_declined_offer_the_connection_serves_the_next_request() -> None:
    async with served() as (_, port), Connection(port) as connection:
        first = post(b"", "connection: upgrade", "upgrade: h2c", "content-length: 3") + b"abc"
        connection.send(first + post(b"", "content-length: 2") + b"xy")
        assert [(await connection.answer()).body for _ in range(2)] == [b"3", b"2"]


async def test_it_is_no_proxy() -> None:
    async with served() as (app, port), Connection(port) as connection:
        connection.send(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n")
        assert (await connection.answer()).error["code"] == "invalid_http"
        assert await connection.closed()
    assert app.scopes == []


async def test_a_client_of_http_1_0_gets_its_stream_without_chunks() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for data, more in ((b"data: 1\n\n", True), (b"data: 2\n\n", False)):
            await send({"type": "http.response.body", "body": data, "more_body": more})

    listener = bind("127.0.0.1", 0, "PORT")
    port = listener.getsockname()[1]
    async with asyncio.timeout(20), serving(stream, listener, stop_grace_s=1.0):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert body == b"data: 1\n\ndata: 2\n\n"
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head


async def test_requests_in_one_piece_are_all_served() -> None:
    async with served(head_bytes_max=1024) as (_, port), Connection(port) as connection:
        connection.send(get("/") * 30)
        for _ in range(30):
            assert (await connection.answer()).status == 200


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"GET / HT", get("/")[:-2]], ids=["", "line", "half", "no_end"])
async def test_a_new_connection_without_a_whole_head_is_closed(beginning: bytes) -> None:
    async with served(head_wait_s=0.2) as (app, port), Connection(port) as connection:
        connection.send(beginning)
        assert await connection.closed()
        assert app.scopes == []


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for_longer() -> None:
    async with served(head_wait_s=0.3) as (app, port), Connection(port) as connection:

        async def drip() -> None:
            for byte in of_size(10_000):
                connection.send(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.ensure_future(drip())
        try:
            assert await connection.closed()
        finally:
            dripping.cancel()
        assert app.scopes == []


@pytest.mark.parametrize("together", [False, True], ids=["later", "in_one_piece"])
async def test_half_a_head_on_a_kept_connection_closes_it(together: bool) -> None:
    async with served(head_wait_s=0.2) as (app, port), Connection(port) as connection:
        connection.send(get("/") + (b"GET /" if together else b""))
        assert (await connection.answer()).status == 200
        connection.send(b"" if together else b"GET /")
        assert await connection.closed()
        assert len(app.scopes) == 1


async def test_an_idle_kept_connection_outlasts_the_wait_for_a_head() -> None:
    async with served(head_wait_s=0.1) as (_, port), Connection(port) as connection:
        connection.send(get("/"))
        assert (await connection.answer()).status == 200
        await asyncio.sleep(0.3)
        connection.send(get("/"))
        assert (await connection.answer()).status == 200


async def test_an_idle_kept_connection_is_closed_in_the_end() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {})
    gateway = await fleet.gateway(IDLE_CONNECTION_S="0.2")
    try:
        async with asyncio.timeout(10), Connection(gateway.port) as connection:
            connection.send(get("/livez"))
            assert (await connection.answer()).status == 200
            assert await connection.closed()
    finally:
        await fleet.aclose()


async def test_an_answer_that_takes_long_is_not_cut_for_half_a_head_behind_it() -> None:
    async with served(head_wait_s=0.1) as (app, port), Connection(port) as connection:
        app.may_answer.clear()
        connection.send(get("/") + b"GET /")
        await asyncio.sleep(0.4)
        app.may_answer.set()
        assert (await connection.answer()).status == 200
        assert await connection.closed()


FORWARDED = ("x-forwarded-for: 203.0.113.7", "x-forwarded-proto: https", "forwarded: for=203.0.113.7;proto=https")


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8", "192.0.2.1", "::1")], ids=["nobody", "others"])
async def test_what_an_untrusted_client_says_of_itself_changes_nothing(trusted: tuple[str, ...]) -> None:
    async with served(trusted_proxies=trusted) as (app, port), Connection(port) as connection:
        for headers in (("accept: */*",), FORWARDED):
            connection.send(get("/", *headers))
            assert (await connection.answer()).status == 200
        plain, forwarded = app.scopes
        assert plain["client"] == forwarded["client"] == connection.writer.get_extra_info("sockname")
        assert plain["scheme"] == forwarded["scheme"] == "http"


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8"])
async def test_a_trusted_proxy_is_believed(trusted: str) -> None:
    async with served(trusted_proxies=(trusted,)) as (app, port), Connection(port) as connection:
        connection.send(get("/", *FORWARDED))
        assert (await connection.answer()).status == 200
        assert app.scopes[0]["client"][0] == "203.0.113.7"
        assert app.scopes[0]["scheme"] == "https"


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        get("/").replace(b"HTTP/1.1", b"HTTP/9.9"),
        get("/", "x y: a"),
        post(b"z\r\n", "transfer-encoding: chunked"),
    ],
    ids=["nonsense", "version", "header", "chunk"],
)
async def test_malformed_http_is_a_400_in_openais_shape(request_: bytes) -> None:
    async with served() as (_, port), Connection(port) as connection:
        connection.send(request_)
        await refused(connection, 400, "invalid_http")


async def test_an_earlier_request_gets_its_own_answer_before_a_malformed_one_ends_the_connection() -> None:
    async with served() as (app, port), Connection(port) as connection:
        app.may_answer.clear()
        connection.send(get("/"))
        async with Connection(port) as other:
            other.send(get("/"))
            connection.send(b"nonsense\r\n\r\n")
            app.may_answer.set()
            assert (await other.answer()).status == 200
        answer = await connection.answer()
        assert (answer.status, answer.body) == (200, b"0")
        assert await connection.closed()


async def test_what_is_wrong_with_a_later_body_is_no_answer_to_an_earlier_request() -> None:
    async with served() as (app, port), Connection(port) as connection:
        app.may_answer.clear()
        connection.send(get("/") + post(b"z\r\n", "transfer-encoding: chunked"))
        with pytest.raises(asyncio.IncompleteReadError) as ended:
            await connection.head()
        assert ended.value.partial == b""


async def test_whoever_is_refused_is_listened_to_no_longer_than_a_moment() -> None:
    async with served() as (_, port), Connection(port) as connection:
        connection.send(b"nonsense\r\n\r\n")
        await refused(connection, 400, "invalid_http")

        def cannot_send() -> bool:
            connection.send(b"x")
            return connection.writer.is_closing()

        await until(cannot_send)


async def test_what_stands_behind_a_chunked_body_does_not_become_a_header() -> None:
    async with served() as (app, port), Connection(port) as connection:
        connection.send(post(b"1\r\nx\r\n0\r\nauthorization: Bearer forged\r\n\r\n", "transfer-encoding: chunked"))
        assert (await connection.answer()).body == b"1"
        assert b"authorization" not in dict(app.scopes[0]["headers"])


async def test_what_stands_behind_a_chunked_body_is_bounded() -> None:
    async with served(head_bytes_max=1024) as (_, port), Connection(port) as connection:
        connection.send(post(b"0\r\n", "transfer-encoding: chunked"))
        line = b"x: " + b"a" * 1000 + b"\r\n"
        for _ in range(2 * 1024):
            connection.send(line)
        await refused(connection, 431, "headers_too_large")


async def test_a_chunk_as_small_as_can_be_is_part_of_a_body_all_the_same() -> None:
    async with served(head_bytes_max=1024) as (_, port), Connection(port) as connection:
        connection.send(post(b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n", "transfer-encoding: chunked"))
        assert (await connection.answer()).body == b"200000"


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads no body."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_a_body_that_was_answered_before_it_came_ends_the_connection_and_the_answer_says_so() -> None:
    listener = bind("127.0.0.1", 0, "PORT")
    async with (
        asyncio.timeout(20),
        serving(refuse, listener, stop_grace_s=1.0),
        Connection(listener.getsockname()[1]) as connection,
    ):
        connection.send(post(b"x", "content-length: 1"))
        whole = await connection.answer()
        assert (whole.status, "connection" in whole.headers) == (401, False)
        connection.send(post(b"", "content-length: 1000000") + b"x")
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close"), "nobody shall ask here again"
        connection.send(b"y")
        assert await connection.closed()


async def test_who_keeps_no_connection_can_send_all_and_hear_why_nobody_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As urllib does: a connection that breaks while it sends is all that its user would hear of."""
    monkeypatch.setattr("process.http_protocol.LINGER_S", 20.0)
    listener = bind("127.0.0.1", 0, "PORT")
    request = urllib.request.Request(
        f"http://127.0.0.1:{listener.getsockname()[1]}/", data=bytes(8_000_000), method="POST"
    )
    async with asyncio.timeout(20), serving(refuse, listener, stop_grace_s=1.0):
        with pytest.raises(urllib.error.HTTPError) as heard:
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=15)
        with heard.value as answer:
            assert answer.code == 401


async def answers_of(connection: Connection) -> int:
    """How many good answers come until the connection ends."""
    count = 0
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            assert (await connection.answer()).status == 200
            count += 1
    return count


async def test_requests_far_ahead_of_their_answers_are_not_kept() -> None:
    async with served() as (app, port), Connection(port) as connection:
        app.may_answer.clear()
        connection.send(get("/") * 20_000)
        await until(lambda: app.scopes)
        app.may_answer.set()
        assert 1 < await answers_of(connection) <= PIPELINE_MAX + 1


async def test_offers_without_end_in_one_piece_are_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (_, port), Connection(port) as connection:
        connection.send(get("/", "connection: upgrade", "upgrade: h2c") * 1000)
        assert 1 <= await answers_of(connection) <= PIPELINE_MAX + 1
    assert not caplog.records
