"""Who comes into the dashboard: by which key, from which page, how often; and what of it others may keep."""

from __future__ import annotations

import asyncio
import contextlib
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import pytest

from management.guesses import WRONG_KEYS_PER_MIN
from management.pages import door, live
from management.pages.frame import POLICY
from management.pages.pages import SHOWN
from tests import sqlite_file
from tests.counting_house import CountingHouse
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "key-of-the-house"
PAGES = [path.replace("{request_id}", "req_1") for path in SHOWN]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    house = CountingHouse(tmp_path)
    yield house
    await house.end()


class Browser:
    """Asks as a browser does: keeps cookies, and says where a form comes from."""

    def __init__(self, house: CountingHouse, session: aiohttp.ClientSession) -> None:
        self.url = f"http://127.0.0.1:{house.port}"
        self.session = session

    async def get(self, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        async with self.session.get(self.url + path, allow_redirects=False, headers=headers) as response:
            return response, await response.text()

    async def post(
        self, path: str, form: dict[str, str], headers: dict[str, str] | None = None
    ) -> tuple[aiohttp.ClientResponse, str]:
        sent = {"origin": self.url} if headers is None else headers
        async with self.session.post(self.url + path, data=form, headers=sent, allow_redirects=False) as response:
            return response, await response.text()

    async def csrf(self) -> str:
        _, html = await self.get("/")
        return html.partition('name="csrf" value="')[2].partition('"')[0]


@contextlib.asynccontextmanager
async def browsing(house: CountingHouse) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(house, session)


async def test_no_page_is_shown_without_the_key_and_each_leads_back_after_it(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as browser:
        for path in PAGES:
            response, html = await browser.get(path, authorization=f"Bearer {KEY}")
            assert response.status == 303, path
            assert response.headers["location"].startswith("/login"), path
            assert html == ""
        response, _ = await browser.get("/live", accept="text/event-stream")
        assert response.status == 401
        response, _ = await browser.get("/requests?model=a%26b", **{"hx-request": "true"})
        assert (response.status, response.headers["hx-redirect"]) == (401, "/login")
        response, _ = await browser.get("/requests?model=a%26b")
        assert response.headers["location"] == "/login?next=/requests%3Fmodel%3Da%2526b"
        response, _ = await browser.post("/login", {"key": KEY, "next": "/requests?model=a%26b"})
        assert (response.status, response.headers["location"]) == (303, "/requests?model=a%26b")
        for path in PAGES:
            response, html = await browser.get(path)
            assert response.status in (200, 404), (path, html)


async def test_a_cookie_is_for_this_site_alone_and_no_page_is_kept(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as browser:
        response, _ = await browser.post("/login", {"key": KEY, "next": "//evil.example"})
        assert response.headers["location"] == "/"
        cookie = response.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "max-age=" in cookie
        assert "secure" not in cookie
        assert KEY not in cookie
        behind_tls = {"origin": browser.url, "x-forwarded-proto": "https"}
        response, _ = await browser.post("/login", {"key": KEY}, behind_tls)
        assert "secure" in response.headers["set-cookie"].lower()
        await browser.post("/login", {"key": KEY})
        for path in ("/", "/login", "/nothing-here", "/requests/req_unknown"):
            response, _ = await browser.get(path)
            if path != "/nothing-here":
                assert response.headers.get("content-security-policy", POLICY) == POLICY
                assert response.headers.get("cache-control", "no-store") == "no-store"
        assert "unsafe" not in POLICY
        response, _ = await browser.get("/static/app.css")
        assert response.status == 200
        assert "immutable" in response.headers["cache-control"]


async def test_forms_of_other_sites_do_nothing(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as browser:
        strangers: list[dict[str, str]] = [
            {},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": browser.url, "sec-fetch-site": "cross-site"},
            {"origin": browser.url, "sec-fetch-site": "same-site"},
            {"origin": browser.url + ".evil.example"},
        ]
        for headers in strangers:
            response, html = await browser.post("/login", {"key": KEY}, headers)
            assert response.status == 403, headers
            assert "set-cookie" not in response.headers
            assert "not sent from a page of this address" in html
        await browser.post("/login", {"key": KEY})
        csrf = await browser.csrf()
        assert len(csrf) == 64
        for headers in strangers:
            response, _ = await browser.post("/logout", {"csrf": csrf}, headers)
            assert response.status == 403, headers
        for wrong in ("", "x", csrf[:-1], csrf.upper(), "ü"):
            response, html = await browser.post("/logout", {"csrf": wrong})
            assert response.status == 403, wrong
            assert "out of date" in html
        response, _ = await browser.get("/")
        assert response.status == 200
        response, _ = await browser.post("/logout", {"csrf": csrf})
        assert (response.status, response.headers["location"]) == (303, "/login")
        response, _ = await browser.get("/")
        assert response.status == 303


PAUSE = {"action": "pause", "scope": "model", "subject": "small", "reason": "the provider moves", "back": "/models"}


async def test_an_operator_acts_and_it_is_written_down_with_the_name_of_the_key(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEYS="alice=operator:alices-key,grafana=reader:grafanas-key")
    async with browsing(house) as browser:
        await browser.post("/login", {"key": "alices-key"})
        csrf = await browser.csrf()
        response, _ = await browser.post("/do", PAUSE | {"csrf": csrf})
        assert (response.status, response.headers["location"]) == (303, "/models?told=1")
        _, page = await browser.get("/models?told=1")
        assert "No node of it is there now: it holds for those that come." in page
        assert "Paused by alice" in page
        _, page = await browser.get("/actions")
        assert "the provider moves" in page
        for wrong, sentence in (
            ({"action": "fly"}, "this form: "),
            ({"action": "pause", "scope": "model", "subject": ""}, "subject: "),
            ({"action": "drain", "scope": "node", "subject": "nobody"}, "No node &#39;nobody&#39; is there."),
            ({"action": "cancel", "request_id": "x"}, "request_id: "),
            ({"action": "discard", "request_id": "req_unknown"}, "Nothing is known of this request."),
        ):
            response, page = await browser.post("/do", wrong | {"csrf": csrf})
            assert response.status in (400, 404), wrong
            assert sentence in page, page
        response, _ = await browser.post("/do", PAUSE | {"csrf": csrf, "back": "//evil.example/"})
        assert response.headers["location"].startswith("/?told=")


async def test_a_form_that_comes_after_the_session_is_told_to_have_done_nothing_and_leads_back(
    house: CountingHouse,
) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as browser:
        for came_from, wanted in (
            (f"{browser.url}/nodes?model=a%26b&told=3", "/nodes?model=a%26b"),
            (f"{browser.url}/models?told=3#main", "/models"),
            (f"{browser.url}/", "/"),
            ("", "/"),
        ):
            response, page = await browser.post("/do", PAUSE, {"origin": browser.url, "referer": came_from})
            assert response.status == 401
            assert door.TOO_LATE in page
            assert f'name="next" value="{escape(wanted)}"' in page
        response, _ = await browser.post("/logout", {})
        assert (response.status, response.headers["location"]) == (303, "/login")
        # So does a part of a page that is made anew.
        part = {"hx-request": "true", "hx-current-url": f"{browser.url}/nodes?model=a%26b&told=3"}
        response, _ = await browser.get("/nodes?model=a%26b", **part)
        assert (response.status, response.headers["hx-redirect"]) == (401, "/login?next=/nodes%3Fmodel%3Da%2526b")
        await browser.post("/login", {"key": KEY})
        assert "Pause" not in (await browser.get("/actions"))[1].partition("<tbody>")[2]


async def test_a_reader_sees_everything_but_prompts_and_does_nothing(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEYS="alice=operator:alices-key,grafana=reader:grafanas-key")
    async with browsing(house) as browser, browsing(house) as alice:
        await alice.post("/login", {"key": "alices-key"})
        await alice.post("/do", PAUSE | {"csrf": await alice.csrf()})
        await browser.post("/login", {"key": "grafanas-key"})
        csrf = await browser.csrf()
        _, page = await browser.get("/models")
        assert "Paused by alice" in page
        assert 'action="/do"' not in page
        assert 'action="/do"' in (await alice.get("/models"))[1]
        response, page = await browser.post("/do", PAUSE | {"csrf": csrf, "action": "resume"})
        assert response.status == 403
        assert "needs an operator" in page
        assert "Paused by alice" in (await browser.get("/models"))[1]
        response, _ = await browser.get("/requests/req_1/prompt")
        assert response.status == 403
        for key, status in (("grafanas-key", 403), ("alices-key", 404)):
            told = await house.get("/api/v1/requests/req_1/prompt", authorization=f"Bearer {key}")
            assert told[0] == status, told
        response, _ = await browser.post("/do", PAUSE | {"csrf": await alice.csrf()})
        assert response.status == 403, "a form of somebody else's session"
        response, _ = await browser.post("/logout", {"csrf": csrf})
        assert response.status == 303


async def test_wrong_keys_have_to_wait_and_sessions_go_on(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as inside, browsing(house) as outside:
        await inside.post("/login", {"key": KEY})
        for _ in range(WRONG_KEYS_PER_MIN):
            response, html = await outside.post("/login", {"key": "guessed-key"})
            assert response.status == 401
            assert "This is no management key." in html
            assert "guessed-key" not in html
        response, html = await outside.post("/login", {"key": KEY})
        assert response.status == 429
        assert "Wait a minute" in html
        response, _ = await inside.get("/")
        assert response.status == 200


@pytest.mark.parametrize("address", ["//[", "http://[", "//evil.example/", "https:evil", "/\\evil"])
async def test_strange_addresses_lead_to_the_first_page(house: CountingHouse, address: str) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as browser:
        response, _ = await browser.get(f"/login?next={quote(address)}")
        assert response.status == 200
        response, _ = await browser.post("/login", {"key": KEY, "next": address})
        assert (response.status, response.headers["location"]) == (303, "/")
        origin = {"origin": address}
        response, _ = await browser.post("/do", PAUSE | {"csrf": await browser.csrf()}, origin)
        assert response.status == 403
        response, _ = await browser.post("/do", PAUSE, {"origin": browser.url, "referer": address})
        assert response.status == 403
    assert (await house.get("/", method="OPTIONS"))[0] == 405


async def test_behind_a_proxy_wrong_keys_are_counted_by_who_shows_them(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEY=KEY, MANAGEMENT_TRUSTED_PROXIES="127.0.0.0/8")
    async with browsing(house) as browser:

        async def status(key: str, address: str) -> int:
            sent = {"origin": browser.url, "x-forwarded-for": address}
            return (await browser.post("/login", {"key": key}, sent))[0].status

        for _ in range(WRONG_KEYS_PER_MIN):
            assert await status("guessed-key", "192.0.2.1") == 401
        assert await status(KEY, "192.0.2.1") == 429
        assert await status(KEY, "192.0.2.2") == 303


async def test_what_is_no_form_is_refused(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    async with browsing(house) as browser:
        async with browser.session.post(
            browser.url + "/login", json={"key": KEY}, headers={"origin": browser.url}
        ) as response:
            assert response.status == 400
        response_, _ = await browser.post("/login", {"key": "x" * 20_000})
        assert response_.status == 400
        response_, _ = await browser.post("/login", {f"field-{number}": "x" for number in range(60)})
        assert response_.status == 400
        response_, html = await browser.post("/requests", {"key": KEY})
        assert response_.status == 405
        assert "<html" in html


async def test_half_a_form_holds_no_connection_for_ever_and_fills_no_log(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    head = "POST /login HTTP/1.1\r\nhost: x\r\norigin: http://x\r\ncontent-length: 100\r\n"
    half = f"{head}content-type: application/x-www-form-urlencoded\r\n\r\nkey=".encode()
    _, gone = await asyncio.open_connection("127.0.0.1", house.port)
    gone.write(half)
    await gone.drain()
    monkeypatch.setattr(door, "FORM_WAIT_S", 0.1)
    reader, slow = await asyncio.open_connection("127.0.0.1", house.port)
    slow.write(half)
    gone.close()
    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    slow.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_without_a_key_pages_are_shown_to_this_machine_only(house: CountingHouse) -> None:
    await house.start()
    async with browsing(house) as browser:
        for host in ("127.0.0.1", "localhost", "127.0.0.1:9", "[::1]:8082"):
            response, _ = await browser.get("/", host=host)
            assert response.status == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8082"):
            response, html = await browser.get("/", host=host)
            assert response.status in (400, 403), host
            assert "Requests today" not in html
        response, _ = await browser.get("/login")
        assert (response.status, response.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    "address",
    [
        "/requests?since=yesterday",
        "/requests?cursor=x",
        "/requests?status=wrong",
        "/requests?model=" + "x" * 600,
        "/usage?by=colour",
        "/usage?days=-1",
        "/usage?cursor=~~",
        "/usage?by=day&cursor=1~yesterday",
        "/errors?cursor=-1",
        "/errors?of=gods",
        "/dead-letters?cursor=1-2-3",
        "/requests/a%00b",
        "/requests?model=a%00b",
        "/nodes?model=a%00b",
        "/errors?of=requests&model=a%00b",
        "/keys?after=a%00b",
        "/keys?budgets=key~day~a%00b",
        "/usage?by=key&cursor=1~a%00b",
        "/usage.csv?by=nobody",
    ],
)
async def test_a_wrong_address_is_a_page_with_a_sentence(house: CountingHouse, address: str) -> None:
    await house.start()
    async with browsing(house) as browser:
        response, html = await browser.get(address)
        assert response.status == 400
        assert "<html" in html
        assert "Try again" not in html
        assert "Something went wrong on our side" not in html


async def test_the_database_away_is_a_sentence_and_health_tells_it(house: CountingHouse) -> None:
    await house.start()
    renamed = (f"ALTER TABLE {table} RENAME TO {table}_elsewhere" for table in ("ends", "quarantine"))
    await sqlite_file.execute(house.path, *renamed)
    async with browsing(house) as browser:
        response, html = await browser.get("/requests")
        assert response.status == 503
        assert "The database cannot be read at the moment." in html
        assert '<a class="button" href="">Try again</a> <a class="button" href="/health">Health</a>' in html
        response, html = await browser.get("/health")
        assert response.status == 200
        assert "The database cannot be read at the moment." in html
        assert "<dd>not known</dd>" in html
        assert "none yet" not in html


async def test_an_open_stream_ends_with_management(house: CountingHouse) -> None:
    await house.start(MANAGEMENT_STOP_GRACE_S="60")
    async with browsing(house) as browser, browser.session.get(browser.url + "/live") as response:
        assert response.content_type == "text/event-stream"
        assert await response.content.readline() == b"retry: 3000\n"
        async with asyncio.timeout(15):
            await house.end()
        assert b"event: ready" in await response.content.read()


async def test_so_many_streams_and_no_more_are_open_at_once(
    house: CountingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STREAMS_MAX", 2)
    await house.start()
    async with browsing(house) as browser:
        streams = [await browser.session.get(browser.url + "/live") for _ in range(2)]
        for stream in streams:
            assert await stream.content.readline() == b"retry: 3000\n"
        response, _ = await browser.get("/live")
        assert (response.status, response.headers["retry-after"]) == (503, "60")
        streams[0].close()

        async def has_room() -> bool:
            async with browser.session.get(browser.url + "/live") as again:
                return again.status == 200

        await until(has_room)
        streams[1].close()
