"""What a browser hears about other origins: nothing unless it is set, and then only what was allowed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from broker.memory import MemoryBroker, MemoryServer
from gateway.settings import GatewaySettings
from process.settings import WrongSettings, load
from tests.in_process import InProcessFleet
from tests.raw_http import JSON, KEY, Answer, Connection, exchange, get, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = "https://app.example"
ASKS = ("access-control-request-method: POST", "access-control-request-headers: authorization,http-referer")


@contextlib.asynccontextmanager
async def gateway(**env: str) -> AsyncIterator[int]:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"API_KEYS": f"tester:{KEY}", "MODELS": "static"})
    try:
        yield (await fleet.gateway(**env)).port
    finally:
        await fleet.aclose()


async def preflight(port: int, origin: str = PAGE) -> Answer:
    request = get("/v1/chat/completions", f"origin: {origin}", *ASKS, method="OPTIONS")
    return await exchange(port, request)


async def listed(port: int, *headers: str) -> Answer:
    return await exchange(port, get("/v1/models", JSON[1], *headers))


def words(answer: Answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def test_no_word_is_said_unless_origins_are_set() -> None:
    async with gateway() as port:
        answer = await preflight(port)
        assert (answer.status, words(answer)) == (401, set())
        answer = await listed(port, f"origin: {PAGE}")
        assert (answer.status, words(answer)) == (200, set())
        assert "vary" not in answer.headers


async def test_a_preflight_needs_no_key_and_leaves_the_page_the_headers_it_asks_for() -> None:
    async with gateway(CORS_ORIGINS=f"https://other.example, {PAGE}") as port:
        answer = await preflight(port)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-methods"] == "GET, POST"
        assert answer.headers["access-control-allow-headers"] == "authorization, http-referer"
        assert "Origin" in answer.headers["vary"]
        assert answer.headers["x-request-id"].startswith("req_")
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil.example", "null", "http://app.example"]
)
async def test_another_origin_gets_no_leave(origin: str) -> None:
    async with gateway(CORS_ORIGINS=PAGE) as port:
        answer = await preflight(port, origin)
        assert (answer.status, words(answer)) == (204, set())
        answer = await listed(port, f"origin: {origin}")
        assert (answer.status, words(answer)) == (200, set())
        assert answer.headers["vary"] == "Origin"


async def test_responses_and_errors_can_be_read_with_their_headers() -> None:
    async with gateway(CORS_ORIGINS=PAGE) as port:
        page = f"origin: {PAGE}"
        for answer, status in (
            (await listed(port, page), 200),
            (await exchange(port, get("/v1/models", page)), 401),
            (await exchange(port, get("/nowhere", page, JSON[1])), 404),
            (await exchange(port, post(b"", *JSON, page, "content-length: 0")), 400),
        ):
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == PAGE
            exposed = set(answer.headers["access-control-expose-headers"].split(", "))
            assert {
                "x-request-id",
                "openai-processing-ms",
                "openai-version",
                "retry-after",
                "retry-after-ms",
                "x-should-retry",
            } <= exposed
            assert {"x-queue-position", "x-queue-eta-ms"} <= exposed
            assert {"x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests"} <= exposed


async def test_a_star_lets_every_origin_in() -> None:
    async with gateway(CORS_ORIGINS="*") as port:
        for answer in (await preflight(port), await listed(port, "origin: https://any.example")):
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_credentials_are_allowed_where_that_is_set() -> None:
    async with gateway(CORS_ORIGINS=PAGE, CORS_CREDENTIALS="true") as port:
        for answer in (await preflight(port), await listed(port, f"origin: {PAGE}")):
            assert answer.headers["access-control-allow-credentials"] == "true"


async def test_only_a_preflight_passes_the_door() -> None:
    async with gateway(CORS_ORIGINS="*") as port:
        for headers in ((), (f"origin: {PAGE}",), ASKS):
            request = get("/v1/models", *(headers or ("accept: */*",)), method="OPTIONS")
            assert (await exchange(port, request)).status == 401
        assert (await exchange(port, get("/metrics", f"origin: {PAGE}", *ASKS))).status == 401


def test_credentials_for_everyone_are_refused() -> None:
    with pytest.raises(WrongSettings, match="CORS_CREDENTIALS=true would let every page"):
        load(GatewaySettings, {"CORS_ORIGINS": "*", "CORS_CREDENTIALS": "true"})


async def test_a_page_can_read_why_its_request_was_no_http() -> None:
    async with gateway(CORS_ORIGINS=PAGE, HEAD_BYTES_MAX="2048") as port:
        for origin, request, status in (
            (PAGE, get("/v1/models", f"origin: {PAGE}", "x-long: " + "x" * 4096), 431),
            (PAGE, post(b"z\r\n", f"origin: {PAGE}", "transfer-encoding: chunked"), 400),
            (None, get("/v1/models", "origin: https://evil.example", "x-long: " + "x" * 4096), 431),
        ):
            answer = await exchange(port, request)
            assert answer.status == status
            assert answer.headers.get("access-control-allow-origin") == origin
            assert answer.headers["vary"] == "Origin"
        async with Connection(port) as connection:
            connection.send(get("/livez", f"origin: {PAGE}"))
            assert (await connection.answer()).headers["access-control-allow-origin"] == PAGE
            connection.send(b"nonsense\r\n\r\n")
            answer = await connection.answer()
            assert answer.status == 400
            assert "access-control-allow-origin" not in answer.headers, "whose it is nobody knows"
