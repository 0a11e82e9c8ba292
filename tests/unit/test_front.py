"""The front door: whom it refuses, what it counts, and how a request ends whose answer cannot."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.http.front import SERVED, UNSERVED, Front, http_error
from gateway.keys.api_keys import ApiKeys, digest_of
from gateway.keys.key import Key
from gateway.metrics import GatewayMetrics
from process.connection import CONNECTION
from process.log_event import Event
from wire.errors import InvalidRequest, ModelNotFound

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

KEY = "sk-limited-limited"


class Stored:
    """A database with one limited key."""

    is_empty = False

    def find(self, digest: str) -> Key | None:
        return Key(name="limited", concurrent_max=1) if digest == digest_of(KEY.encode()) else None


class Quota:
    """Writes down when a place is taken and freed."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    async def admit(self, key: Key, request: object) -> str:
        self._told.append("place taken")
        return "permit"

    def end(self, permit: str, tokens: int) -> None:
        self._told.append("place freed")

    async def headers(self, key: Key) -> list[tuple[bytes, bytes]]:
        return [(b"x-ratelimit-limit-requests", b"1")]


class Client:
    """Asks a front, before an application that does what ``app`` does, and hears what ``told`` has."""

    def __init__(self, app: Any) -> None:
        self.told: list[str] = []
        self.messages: list[Message] = []
        self.metrics = GatewayMetrics()
        stored: Any = Stored()
        quota: Any = Quota(self.told)
        self._front = Front(app, {}, ApiKeys({}, stored), self.metrics, quota)

    def cut(self) -> None:
        """As a connection is broken."""
        self.told.append("cut")

    async def asks(self, *authorization: str) -> None:
        headers = [(b"authorization", each.encode()) for each in authorization]
        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers, CONNECTION: self}
        await self._front(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        raise AssertionError

    async def _send(self, message: Message) -> None:
        self.messages.append(message)
        self.told.append("head" if message["type"] == "http.response.start" else "body")

    def counted(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def answering(scope: Scope, receive: Receive, send: Send, *, parts: int = 1) -> None:
    await scope["state"]["visit"].admit(None)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for left in reversed(range(parts)):
        await send({"type": "http.response.body", "body": b"x", "more_body": left > 0})


async def test_a_place_is_free_before_the_client_can_know_that_its_answer_has_ended() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(scope, receive, send, parts=2)

    client = Client(app)
    await client.asks(f"Bearer {KEY}")
    assert client.told == ["place taken", "head", "body", "place freed", "body"]
    assert (b"x-ratelimit-limit-requests", b"1") in client.messages[0]["headers"]


async def test_one_that_the_leaving_server_waits_for_no_longer_is_told_so_and_its_place_is_free() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await scope["state"]["visit"].admit(None)
        await asyncio.sleep(60)

    client = Client(app)
    asking = asyncio.ensure_future(client.asks(f"Bearer {KEY}"))
    await asyncio.sleep(0)
    asking.cancel()
    await asking
    assert client.told == ["place taken", "head", "place freed", "body"]
    assert client.messages[0]["status"] == 503


@pytest.mark.parametrize("error", [ModelNotFound(), ZeroDivisionError()], ids=["ours", "a_fault"])
async def test_an_answer_that_cannot_go_on_is_cut_and_gets_no_second_head(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await scope["state"]["visit"].admit(None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    client = Client(app)
    await client.asks(f"Bearer {KEY}")
    assert client.told == ["place taken", "head", "place freed", "cut"]
    told = [record.msg["action"] for record in caplog.records if isinstance(record.msg, Event)]
    assert told == (["fault"] if isinstance(error, ZeroDivisionError) else [])


async def test_a_fault_behind_a_whole_answer_cuts_nothing() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(scope, receive, send)
        raise ZeroDivisionError

    client = Client(app)
    await client.asks(f"Bearer {KEY}")
    assert client.told == ["place taken", "head", "place freed", "body"]


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        ((), 401, "invalid_api_key"),
        (("Bearer sk-unknown-unknown",), 401, "invalid_api_key"),
        ((f"Bearer {KEY}", f"Bearer {KEY}"), 400, InvalidRequest.code),
    ],
)
async def test_who_is_not_let_in_is_counted_and_reaches_nothing(
    authorization: tuple[str, ...], status: int, code: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    client = Client(app)
    await client.asks(*authorization)
    assert (client.told, client.messages[0]["status"]) == (["head", "body"], status)
    assert client.counted("gateway_errors_total", code=code) == 1
    assert client.metrics.take_refusals() == {str(status): 1}


async def test_a_wrong_key_is_called_so_in_the_words_that_litellm_looks_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    client = Client(app)
    await client.asks("Bearer sk-unknown-unknown")
    error = json.loads(client.messages[1]["body"])["error"]
    assert error["message"].startswith("Incorrect API key provided")
    assert "sk-unknown" not in error["message"]


@pytest.mark.parametrize("family", UNSERVED)
def test_who_asks_for_what_only_others_serve_hears_what_is_served_here(family: str) -> None:
    error = http_error(404, f"/v1/{family}/more")
    assert error.http_status == 404
    assert error.message.startswith(f"This gateway does not serve /v1/{family}. It serves {SERVED}.")
    assert error.message.endswith("Set your client to chat completions.") == (family == "responses")


@pytest.mark.parametrize(
    ("status", "path", "code"),
    [
        (404, "/v1/nowhere", "not_found"),
        (404, "/audio", "not_found"),
        (405, "/v1/models", "method_not_allowed"),
        (400, "/", InvalidRequest.code),
    ],
)
def test_what_else_the_router_refuses_has_its_own_error(status: int, path: str, code: str) -> None:
    error = http_error(status, path)
    assert (error.http_status, error.own_code) == (status, code)
    assert "does not serve /v1/" not in error.message
