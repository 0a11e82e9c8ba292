"""Every route against every kind of stranger, odd paths and odd methods. New routes are found by themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

import gateway.app
from broker.memory import MemoryBroker, MemoryServer
from gateway.http.front import HEALTH_PATHS, OPEN_PATHS
from gateway.page.routes import POLICY
from tests.in_process import InProcessFleet
from tests.keys import Keys
from tests.raw_http import KEY, Answer, Connection, exchange, get, post
from tests.routes import caught, routes_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGERS = {
    "no_key": ("accept: */*",),
    "an_empty_header": ("authorization:",),
    "an_empty_bearer": ("authorization: Bearer",),
    "basic": (f"authorization: Basic {KEY}",),
    "the_bare_key": (f"authorization: {KEY}",),
    "a_wrong_key": ("authorization: Bearer sk-test-wrong-wrong-wrong",),
    "another_header": (f"x-api-key: {KEY}",),
}
ODD_PATHS = (
    "//v1/models",
    "/v1//models",
    "/v1/models/",
    "/v1/models/%2e%2e/%2e%2e/metrics",
    "/%2e%2e/metrics",
    "/v1/%2e%2e/metrics",
    "/./metrics",
    "/metrics/",
    "/metrics%00",
    "/metrics;a",
    "/METRICS",
    "/livez/../metrics",
    "/livez//",
    "/livez/metrics",
    "/livez%2f",
    "/readyz/",
    "/v1/models/a%2fb",
    "/v1/models/%ff",
    "/v1/models/%0d%0ax:y",
    "/v1/models/" + "x" * 10_000,
    "/v1/models/%",
    "/docs",
    "/redoc",
    "/openapi.json/",
    "//",
    "/index.html",
    "/page",
    "/page/",
    "/page.js/",
    "/page.js.map",
    "/page/routes.py",
    "/page.css/../metrics",
    "/%2e",
    "/favicon.ico",
    "/v1",
    "/v1/chat",
    "/v1/chat/completions/",
    "/v1/chat/completions/x",
    "/nowhere",
    "http://gateway/metrics",
    "*",
)


class Doors:
    """A gateway that asks for a key, and the application inside it."""

    def __init__(self, app: FastAPI, port: int, revoked: str) -> None:
        self.port = port
        self.routes = routes_of(app, "static")
        self.revoked = revoked

    async def knock(self, method: str, path: str, *headers: str) -> Answer:
        data = post(b"{}", *headers, "content-length: 2", path=path) if method == "POST" else None
        return await exchange(self.port, data or get(path, *headers, method=method), method=method)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('keys')}/ledger.db")
    revoked = await keys.create("gone")
    await keys.run("revoke", "gone")
    server = MemoryServer()
    settings = {"API_KEYS": f"tester:{KEY}", "DATABASE_URL": keys.url, "MODELS": "static"}
    fleet = InProcessFleet(lambda: MemoryBroker(server), settings)
    with caught(gateway.app, "FastAPI") as made:
        running = await fleet.gateway()
    yield Doors(made[0], running.port, revoked)
    await fleet.aclose()


async def test_the_routes_are_found(doors: Doors) -> None:
    assert {("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/livez")} <= set(doors.routes)


@pytest.mark.parametrize("stranger", [*STRANGERS, "a_revoked_key"])
async def test_no_route_but_health_and_the_page_is_open_to(doors: Doors, stranger: str) -> None:
    headers = STRANGERS.get(stranger) or (f"authorization: Bearer {doors.revoked}",)
    for method, path in doors.routes:
        for where in (path, f"{path}?api_key={KEY}&key={KEY}&access_token={KEY}"):
            answer = await doors.knock(method, where, *headers)
            if path in OPEN_PATHS:
                assert answer.status == 200, (method, where)
            else:
                assert answer.status == 401, (method, where)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert method == "HEAD" or answer.error["code"] == "invalid_api_key"
                assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
            assert KEY not in str(answer)
            assert doors.revoked not in str(answer)
            assert answer.headers["x-request-id"].startswith("req_")


async def test_only_health_and_the_page_are_named_open() -> None:
    assert {"/livez", "/readyz", "/", "/page.css", "/page.js"} == OPEN_PATHS


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_an_open_path_can_only_be_read(doors: Doors, method: str, path: str) -> None:
    answer = await doors.knock(method, path, "content-type: application/json")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "media_type"), [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")]
)
async def test_the_page_lets_nothing_in_from_elsewhere_and_is_not_kept(
    doors: Doors, path: str, media_type: str
) -> None:
    answer = await doors.knock("GET", path, "accept: */*")
    assert answer.status == 200
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    head = await doors.knock("HEAD", path, "accept: */*")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ODD_PATHS, ids=lambda path: path[:30])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
async def test_an_odd_path_never_opens_anything(doors: Doors, method: str, path: str) -> None:
    stranger = await doors.knock(method, path, "content-type: application/json")
    # In this form of the request line the path is what stands behind the host: metrics, asked for without a key.
    assert stranger.status == 401, (method, path)
    friend = await doors.knock(method, path, "content-type: application/json", f"authorization: Bearer {KEY}")
    expected = {200, 404, 405} if path.startswith("http://") else {404, 405}
    assert friend.status in expected, (method, path)
    if friend.status >= 400 and method != "HEAD":
        assert friend.error["message"]


async def test_an_unknown_route_is_a_404_in_openais_shape(doors: Doors) -> None:
    answer = await doors.knock("GET", "/v1/nowhere", f"authorization: Bearer {KEY}")
    assert (answer.status, answer.error["code"], answer.error["type"]) == (404, "not_found", "invalid_request_error")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
async def test_a_wrong_method_is_a_405_that_names_the_right_one(doors: Doors, method: str) -> None:
    answer = await doors.knock(method, "/v1/chat/completions", f"authorization: Bearer {KEY}")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert answer.error["code"] == "method_not_allowed"
        assert answer.error["message"] == "This address takes POST and no other HTTP method."


async def test_of_what_can_be_read_the_head_alone_can_be_asked_for(doors: Doors) -> None:
    key = f"authorization: Bearer {KEY}"
    async with Connection(doors.port) as connection:
        for path in [path for method, path in doors.routes if method == "GET"]:
            connection.send(get(path, key))
            read = await connection.answer()
            connection.send(get(path, key, method="HEAD"))
            head = await connection.answer(method="HEAD")
            assert (head.status, head.headers["content-type"]) == (200, read.headers["content-type"]), path
            assert head.headers.keys() == read.headers.keys()


async def test_an_unknown_model_is_a_404_without_echo(doors: Doors) -> None:
    answer = await doors.knock("GET", "/v1/models/CANARY%0d%0a", f"authorization: Bearer {KEY}")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "CANARY" not in str(answer)


async def test_health_needs_no_key_and_tells_no_secret(doors: Doors) -> None:
    for path in HEALTH_PATHS:
        answer = await doors.knock("GET", path, "accept: */*")
        assert answer.status == 200
        assert set(json.loads(answer.body)) <= {"status", "ready", "models", "nodes"}


async def test_a_fault_of_ours_is_a_500_in_openais_shape(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError(KEY)

    monkeypatch.setattr("gateway.models.register.Models.views", broken)
    answer = await doors.knock("GET", "/v1/models", f"authorization: Bearer {KEY}")
    assert (answer.status, answer.error["code"]) == (500, "server_error")
    assert KEY not in str(answer)
    assert answer.headers["x-request-id"].startswith("req_")


async def test_two_requests_in_one_packet_get_two_answers(doors: Doors) -> None:
    async with Connection(doors.port) as connection:
        connection.send(get("/v1/models") + get("/nowhere"))
        assert (await connection.answer()).status == 200
        assert (await connection.answer()).status == 404


@pytest.mark.parametrize(
    ("headers", "more", "status"),
    [
        (("host: evil.example", "origin: http://evil.example"), {}, 403),
        (("host: evil.example", "origin: http://evil.example"), {"ALLOW_ANONYMOUS": "true"}, 404),
        (("host: evil.example", "origin: http://evil.example"), {"API_KEYS": f"tester:{KEY}"}, 401),
        (("host: 127.0.0.1:8081", "origin: http://127.0.0.1:8081"), {}, 404),
        (("host: localhost", "origin: http://localhost"), {}, 404),
        (("host: [::1]:8081", "origin: http://[::1]:8081"), {}, 404),
        (("host: gateway",), {}, 404),
        (("host: gateway", "origin: http://gateway"), {}, 403),
        (("host: printer.local", "origin: http://printer.local"), {}, 403),
    ],
)
async def test_without_keys_a_page_under_a_name_of_its_own_is_not_served(
    headers: tuple[str, ...], more: dict[str, str], status: int
) -> None:
    """A name that somebody else has pointed to this machine makes his page one of our own origin."""
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {})
    try:
        running = await fleet.gateway(**more)
        body = b'{"model":"nobody","messages":[{"role":"user","content":"x"}]}'
        lines = [*headers, "content-type: application/json", f"content-length: {len(body)}", "", ""]
        asked = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines]).encode() + body
        answer = await exchange(running.port, asked)
        assert answer.status == status
        if status == 403:
            assert answer.error["code"] == "foreign_page"
            paths = json.loads((await exchange(running.port, get("/openapi.json"))).body)["paths"]
            documented = {path for path, item in paths.items() for each in item.values() if "403" in each["responses"]}
            assert documented == set(paths) - {"/livez", "/readyz"}
    finally:
        await fleet.aclose()


@pytest.mark.parametrize(
    ("host", "more", "status"),
    [
        ("host: evil.example:8081", {}, 403),
        ("host: EVIL.example.", {}, 403),
        ("host: localhost.evil.example", {}, 403),
        ("host: evil.example", {"ALLOW_ANONYMOUS": "true"}, 200),
        ("host: 127.0.0.1:8081", {}, 200),
        ("host: 192.168.0.9:8081", {}, 200),
        ("host: [::1]:8081", {}, 200),
        ("host: localhost.", {}, 200),
        ("host: gateway:8081", {}, 200),
        ("host: host.docker.internal:8081", {}, 200),
        ("accept: */*", {}, 200),
    ],
)
async def test_without_keys_nothing_is_read_under_a_name_that_somebody_else_may_have_made(
    host: str, more: dict[str, str], status: int
) -> None:
    """A page tells no origin when it reads from its own host. A program that calls us by such a name looks the same."""
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {})
    try:
        running = await fleet.gateway(**more)
        for method, path in (("GET", "/v1/models"), ("HEAD", "/v1/models"), ("GET", "/metrics")):
            asked = f"{method} {path} HTTP/1.0\r\n{host}\r\n\r\n".encode()
            answer = await exchange(running.port, asked, method=method)
            assert answer.status == status, (method, path)
        assert (await exchange(running.port, f"GET /livez HTTP/1.0\r\n{host}\r\n\r\n".encode())).status == 200
    finally:
        await fleet.aclose()
