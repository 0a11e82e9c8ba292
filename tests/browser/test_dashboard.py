"""The dashboard in a real browser: every page in every look, the keyboard, what is live, and strings that attack it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from management.fleet import actions
from management.fleet.actions import Actions
from tests import sqlite_file
from tests.billing import billed, event, node_event, request_data, request_id_of
from tests.dashboard_house import DashboardHouse
from tests.waiting import until
from wire.presence import Presence
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.browser.tab import Tab

KEY = "key-of-the-house"
PHONE = 390
PAGES = {
    "/": "Overview",
    "/models": "Models",
    "/nodes": "Nodes",
    "/requests": "Requests",
    "/errors": "Errors",
    "/errors?of=requests": "Errors",
    "/errors?of=nodes": "Errors",
    "/actions": "Actions",
    "/usage": "Cost and usage",
    "/usage?by=tag&days=7": "Cost and usage",
    "/keys": "Keys and budgets",
    "/dead-letters": "Dead letters",
    "/health": "Health",
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DashboardHouse]:
    house = DashboardHouse(tmp_path)
    yield house
    await house.end()


async def shown(tab: Tab, address: str, title: str) -> None:
    await tab.open(address)
    await tab.settled()
    await tab.reads("h1", title)


async def log_in(tab: Tab, house: DashboardHouse) -> None:
    await shown(tab, f"{house.address}/", "Log in")
    await tab.write("#key", KEY)
    await tab.press("Enter")
    await tab.reads("h1", "Overview")


def only_of(tab: Tab, house: DashboardHouse) -> bool:
    """Whether nobody else was asked for anything."""
    urls = (url for url in tab.requested if not url.startswith(("data:", "about:")))
    return {urlsplit(url).netloc for url in urls} == {f"127.0.0.1:{house.port}"}


async def widest(tab: Tab) -> int:
    return int(await tab.value("document.documentElement.scrollWidth"))


async def cut(tab: Tab) -> list[str]:
    """Tables of which a part is out of sight until somebody scrolls them sideways."""
    wider = "[...document.querySelectorAll('.table')].filter(each => each.scrollWidth > each.clientWidth)"
    return list(await tab.value(f"{wider}.map(each => each.ariaLabel + ' ' + (each.scrollWidth - each.clientWidth))"))


async def test_every_page_is_shown_light_dark_and_on_a_phone(tab: Tab, house: DashboardHouse) -> None:
    await house.open(MANAGEMENT_KEY=KEY)
    await log_in(tab, house)
    requests = {
        f"/requests/{house.sample.shown[what]}": house.sample.shown[what] for what in ("answered", "retried", "dead")
    }
    prompt = {f"/requests/{house.sample.shown['answered']}/prompt": "What its client sent"}
    for width, height, scheme in ((1280, 900, "light"), (1280, 900, "dark"), (PHONE, 844, "light")):
        await tab.looks(width=width, height=height, scheme=scheme)
        for path, title in {**PAGES, **requests, **prompt}.items():
            await shown(tab, house.address + path, title)
            assert await widest(tab) == width, (path, width)
            assert await cut(tab) == [], (path, width)
            ink = await tab.value("getComputedStyle(document.body).color")
            assert ink == ("rgb(231, 234, 239)" if scheme == "dark" else "rgb(22, 26, 33)"), (path, scheme)
    await shown(tab, f"{house.address}/", "Overview")
    assert await tab.value("document.querySelectorAll('.plot canvas').length") == 2
    assert tab.complaints == []
    assert only_of(tab, house)


async def test_every_page_of_an_empty_ledger_says_what_to_do_next(tab: Tab, house: DashboardHouse) -> None:
    await house.start()
    await tab.looks(width=PHONE, height=844)
    said = {
        "/": "Send one to the gateway",
        "/models": "fleet node",
        "/nodes": "fleet node",
        "/requests": "Every request that the gateway accepts",
        "/requests?model=nothing": "Take a filter away",
        "/errors": "appear here",
        "/usage": "Send a request to the gateway",
        "/keys": "fleet keys create",
        "/dead-letters": "replay or discard",
        "/actions": "written down here",
        "/health": "would be listed here",
    }
    for path, sentence in said.items():
        await tab.open(house.address + path)
        await tab.settled()
        await tab.reads("main", sentence)
        assert await widest(tab) == PHONE, path
    assert tab.complaints == []


async def test_no_page_is_wider_than_its_window(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    failed = [
        event(f"failed-{number}", "request.failed", request_data(number, status="failed"), time=house.sample.iso)
        for number in range(120)
    ]
    await house.publish(*failed)
    await house.settled()
    await house.act(action="pause", scope="model", subject="gpt-4o", reason="https://tickets.example/" + "7" * 200)
    for width in (1280, 650, PHONE, 320):
        await tab.looks(width=width, height=844)
        for path in ("/models", "/nodes", "/errors", "/keys"):
            await tab.open(house.address + path)
            await tab.settled()
            assert await widest(tab) == width, (path, width)
    assert tab.complaints == []


async def test_the_keyboard_leads_everywhere(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await shown(tab, f"{house.address}/", "Overview")
    await tab.press("Tab")
    assert await tab.value("document.activeElement.className") == "skip"
    assert await tab.value("document.activeElement.getBoundingClientRect().left") > 0, (
        "it is seen once it has the focus"
    )
    await tab.press("Enter")
    assert await tab.value("location.hash") == "#main"
    for letter, title in (("r", "Requests"), ("e", "Errors"), ("u", "Cost and usage"), ("o", "Overview")):
        await tab.press("g", letter)
        await tab.reads("h1", title)
        await tab.settled()
    await tab.press("g", "r")
    await tab.reads("h1", "Requests")
    await tab.settled()
    await tab.press("/")
    assert await tab.value("document.activeElement.id") == "id"
    await tab.value("document.activeElement.blur()")
    await tab.press("j", "j", "k")
    first = await tab.value("document.querySelector('.rows .head a').textContent")
    assert await tab.value("document.activeElement.textContent") == first
    await tab.press("?")
    await tab.reads("dialog", "Dead letters")
    await tab.press("Escape")
    assert await tab.text("dialog") == ""
    await tab.press("j", "Enter")
    await tab.reads("h1", "req_")
    assert tab.complaints == []


async def test_a_menu_that_is_open_is_closed_by_escape_and_by_who_presses_elsewhere(
    tab: Tab, house: DashboardHouse
) -> None:
    await house.start()
    await tab.looks(width=600, height=900)
    await shown(tab, f"{house.address}/keys", "Keys and budgets")
    for closes in ("Escape", "a press"):
        await tab.click(".narrow summary")
        assert await tab.value("document.querySelector('.narrow').open")
        await (tab.press("Escape") if closes == "Escape" else tab.click("footer"))
        await until(lambda: _is(tab, "document.querySelector('.narrow').open", False))
    await tab.click(".narrow summary")
    await tab.press("Tab", "Escape")
    assert await tab.value("document.activeElement.textContent") == "Menu", "the focus is not lost"
    assert tab.complaints == []


async def test_on_paper_the_ink_is_dark_and_nothing_waits_to_be_pressed(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await tab.looks(width=1280, height=900, scheme="dark")
    await shown(tab, f"{house.address}/usage", "Cost and usage")
    axis = "[...drawn.values()][0].axes[0].stroke()"
    on_screen = await tab.value(axis)
    await tab.value("document.documentElement.dataset.theme = 'dark'")
    await tab.call("Emulation.setEmulatedMedia", media="print")
    await until(lambda: _is(tab, f"{axis} !== '{on_screen}'", True))
    assert await tab.value("getComputedStyle(document.body).color") == "rgb(22, 26, 33)"
    gone = "[...document.querySelectorAll('.side, .filters, main button, main .button')]"
    assert await tab.value(f"{gone}.filter(each => each.checkVisibility()).length") == 0
    assert "gpt-4o" in await tab.text("table")
    assert tab.complaints == []


async def test_colours_are_switched_and_stay_so(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await shown(tab, f"{house.address}/", "Overview")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await tab.value(paper)
    await tab.click("#theme")
    await tab.click("#theme")
    await tab.reads("#theme", "Dark")
    dark = await tab.value(paper)
    assert dark != light
    await shown(tab, f"{house.address}/nodes", "Nodes")
    assert await tab.value(paper) == dark
    assert await tab.value("document.documentElement.dataset.theme") == "dark"
    assert tab.complaints == []


async def test_filters_stand_in_the_address_and_a_filtered_page_can_be_opened_by_it(
    tab: Tab, house: DashboardHouse
) -> None:
    await house.open()
    await shown(tab, f"{house.address}/requests", "Requests")
    await tab.value("document.querySelector('[name=status]').value = 'dead'")
    await tab.value("document.querySelector('[name=status]').dispatchEvent(new Event('change', {bubbles: true}))")
    rows = "document.querySelectorAll('#list tbody tr').length"
    await until(lambda: _is(tab, rows, 1))
    await until(lambda: _is(tab, "location.search", "?status=dead"))
    await tab.write("[name=model]", "no-such-model")
    await tab.press("Enter")
    await tab.reads("#list", "No request is like that")
    await until(lambda: _is(tab, "location.search", "?status=dead&model=no-such-model"))
    # Whoever asks for the same again is not led back to it.
    await tab.value("document.addEventListener('htmx:finally:request', () => { asked = true })")
    await tab.click(".filters button")
    await until(lambda: _is(tab, "typeof asked", "boolean"))
    await tab.value("history.back()")
    await until(lambda: _is(tab, "location.search", "?status=dead"))
    await shown(tab, f"{house.address}/requests?status=dead", "Requests")
    assert await tab.value(rows) == 1
    await tab.click("#list .rows .head a")
    await tab.reads(".lanes", "Attempt 3")
    await tab.reads(".stages", "not reached")
    assert tab.complaints == []


async def _is(tab: Tab, expression: str, value: object) -> bool:
    return bool(await tab.value(expression) == value)


async def test_a_request_appears_by_itself_and_the_focus_stays(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await shown(tab, f"{house.address}/requests", "Requests")
    await tab.reads("#live", "Live")
    await tab.press("j")
    focused = await tab.value("document.activeElement.id")
    await house.publish(billed(1, time="2027-01-01T12:00:00Z"))
    await tab.reads("#list tbody tr:first-child", request_id_of(1)[:10])
    assert await tab.value("document.activeElement.id") == focused, "the focus stays where it was"
    assert tab.complaints == []


async def _hide(tab: Tab, *, hidden: bool) -> None:
    word = str(hidden).lower()
    await tab.value(f"Object.defineProperty(document, 'hidden', {{value: {word}, configurable: true}})")
    await tab.value("document.dispatchEvent(new Event('visibilitychange'))")


async def test_what_changed_while_nobody_looked_is_shown_to_who_looks_again(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await shown(tab, f"{house.address}/requests", "Requests")
    await tab.reads("#live", "Live")
    await _hide(tab, hidden=True)
    await tab.reads("#live", "Not live")
    await house.publish(billed(1, time="2027-01-01T12:00:00Z"))
    await house.settled()
    first = "document.querySelector('#list tbody tr .head a').getAttribute('href')"
    await _hide(tab, hidden=False)
    await until(lambda: _is(tab, first, f"/requests/{request_id_of(1)}"))
    # What somebody marks does not vanish under their hand, and is made anew when they are done.
    await tab.value("getSelection().selectAllChildren(document.querySelector('#list tbody td'))")
    await house.publish(billed(2, time="2027-01-02T12:00:00Z"))
    await house.settled()
    await until(lambda: _is(tab, "suppressed.has('requests')", True))
    assert await tab.value(first) == f"/requests/{request_id_of(1)}"
    await tab.value("getSelection().removeAllRanges()")
    await until(lambda: _is(tab, first, f"/requests/{request_id_of(2)}"))
    assert tab.complaints == []


async def test_the_spreadsheet_is_about_what_is_shown(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await shown(tab, f"{house.address}/usage", "Cost and usage")
    link = "new URL(document.querySelector('a[download]')?.href ?? 'http://not/?there').search"
    assert await tab.value(link) == ""
    await tab.value("document.querySelector('[name=days]').value = '365'")
    await tab.value("document.querySelector('[name=days]').dispatchEvent(new Event('change', {bubbles: true}))")
    await until(lambda: _is(tab, "location.search.includes('days=365')", True))
    await until(lambda: _is(tab, f"{link}.includes('days=365')", True))
    # The browser's Back shows the page as it was, and its buttons do what they say.
    await tab.value("history.back()")
    await until(lambda: _is(tab, "location.search", ""))
    await until(lambda: _is(tab, link, ""))
    theme = await tab.value("document.documentElement.dataset.theme")
    await tab.click("#theme")
    assert await tab.value("document.documentElement.dataset.theme") != theme


async def test_the_parts_of_a_cent_are_shown_whole(tab: Tab, house: DashboardHouse, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text('[[price]]\nmodel = "small"\ncurrency = "USD"\ninput = 0.02\noutput = 0.02\n')
    await house.start(PRICES_FILE=str(tmp_path / "prices.toml"))
    await house.publish(billed(0, time=house.sample.iso))
    await house.settled()
    overflowing = "[...document.querySelectorAll('.figure')].filter(each => each.scrollWidth > each.clientWidth).length"
    axis = "[...drawn.values()][1].axes[1]"
    for width in (1280, PHONE, 320):
        await tab.looks(width=width, height=900)
        await shown(tab, f"{house.address}/", "Overview")
        assert await tab.value(overflowing) == 0, width
        assert await widest(tab) == width
        drawing = "document.querySelector('canvas').getContext('2d')"
        await tab.value(f"{drawing}.font = '11px Inter'")
        room = f"{axis}._values.map(each => {axis}._size - {axis}.gap - {drawing}.measureText(each).width)"
        assert min(await tab.value(room)) > 0, width
    assert "0.00000030 USD" in await tab.text(".rows .paid")
    await tab.value("[...drawn.values()][1].setCursor({left: [...drawn.values()][1].over.clientWidth - 8, top: 9})")
    assert await tab.value("document.querySelectorAll('.chart b')[1].textContent") == "0.00000030"
    # One request has no fifths.
    assert await tab.value("[...drawn.values()][0].axes[1]._values.filter(Boolean)") == ["0", "1"]
    assert tab.complaints == []


async def test_large_figures_and_many_currencies_fit_a_phone(tab: Tab, house: DashboardHouse, tmp_path: Path) -> None:
    currencies = ("AUD", "CHF", "EUR", "GBP", "USD", "JPY")
    price = '[[price]]\nmodel = "m-{0}"\ncurrency = "{0}"\ninput = 1000\noutput = 0\n'
    (tmp_path / "prices.toml").write_text("".join(price.format(name) for name in currencies))
    await house.start(PRICES_FILE=str(tmp_path / "prices.toml"))
    used = Usage(prompt_tokens=900_000_000, completion_tokens=100_000_000)
    for number, name in enumerate(currencies):
        await house.publish(billed(number, model=f"m-{name}", usage=used, attempt=2, time=house.sample.iso))
    await house.settled()
    await tab.looks(width=360, height=800)
    for path in ("/usage?by=day", "/usage?by=key", "/requests", "/"):
        await tab.open(house.address + path)
        await tab.settled()
        assert await cut(tab) == [], path
        clipped = "[...document.querySelectorAll('.state')].filter(each => each.scrollWidth > each.clientWidth)"
        assert await tab.value(f"{clipped}.map(each => each.textContent)") == [], path
    label = await tab.value("[...drawn.values()][0].axes[0]._values.at(-1)")
    assert re.fullmatch(r"\d+ [A-Z][a-z]{2,3}", label), "days are written as in the tables"
    axis = "[...drawn.values()][1].axes[1]._values.at(-1)"
    assert str(await tab.value(axis)).endswith("k"), "and so are thousands"
    assert tab.complaints == []


async def test_a_name_from_right_to_left_turns_no_number_around(tab: Tab, house: DashboardHouse) -> None:
    await house.start()
    names = ("مدل-زبان-بزرگ/نسخه-۲", "\u202edetrever")
    for number, name in enumerate(names):
        await house.publish(billed(number, model=name, usage=Usage(prompt_tokens=10_900_000), time=house.sample.iso))
        failed = request_data(number + 2, model=name, key_id=name, status="failed", error_code="1.5")
        await house.publish(event(f"e-{number}", "request.failed", failed, time=house.sample.iso))
    await house.settled()
    await tab.looks(width=1280, height=900)
    await shown(tab, f"{house.address}/usage", "Cost and usage")
    at_its_side = "each.getBoundingClientRect().left >= each.previousElementSibling.getBoundingClientRect().right"
    assert await tab.value(f"[...document.querySelectorAll('.legend b')].map(each => {at_its_side})") == [True, True]
    parts = "[...document.querySelectorAll('.legend b')].map(each => each.getClientRects().length)"
    assert await tab.value(parts) == [1, 1]
    await shown(tab, f"{house.address}/errors", "Errors")
    assert await tab.value("document.querySelectorAll('.tag bdi').length") == 4
    assert tab.complaints == []


async def test_without_scripts_nothing_waits_for_one(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await tab.call("Emulation.setScriptExecutionDisabled", value=True)

    async def value(expression: str) -> object:
        answer = await tab.call("Runtime.evaluate", expression=expression, returnByValue=True)  # waits for no promise
        return answer["result"].get("value")

    async def is_shown() -> bool:
        return await value("document.readyState === 'complete' && document.querySelectorAll('.plot').length") == 2

    await tab.open(f"{house.address}/usage")
    await until(is_shown)
    assert await value("[...document.querySelectorAll('.plot')].map(each => each.clientHeight)") == [0, 0]
    assert await value("document.querySelector('.tools').checkVisibility()") is False
    assert "gpt-4o" in str(await value("document.querySelector('.legend').textContent"))
    assert tab.complaints == []


async def test_only_a_page_that_is_made_anew_by_itself_says_that_it_is_live(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    one = f"/requests/{house.sample.shown['answered']}"
    for path in ("/usage", "/keys", "/actions", one, "/requests?cursor=9000000000000-9"):
        await tab.open(house.address + path)
        await tab.settled()
        assert await tab.text("#live") == "", path
    assert f"{house.address}/live" not in tab.requested
    await shown(tab, f"{house.address}/requests", "Requests")
    await tab.reads("#live", "Live")
    assert tab.complaints == []


async def test_ages_grow_though_nothing_happens_and_who_is_logged_out_learns_it(
    tab: Tab, house: DashboardHouse
) -> None:
    await house.start(MANAGEMENT_KEY=KEY)
    await house.publish(billed(0, time=house.sample.iso))
    await house.settled()
    quicker = "const own = setInterval; setInterval = (does, ms) => own(does, ms / 100)"
    await tab.call("Page.addScriptToEvaluateOnNewDocument", source=quicker)
    await log_in(tab, house)
    await shown(tab, f"{house.address}/health", "Health")
    age = "document.querySelector('.facts time').textContent"
    first = await tab.value(age)

    async def is_older() -> bool:
        return bool(await tab.value(age) != first)

    await until(is_older)
    port = house.port
    await house.end()
    await house.start(MANAGEMENT_KEY="another-key-than-before", MANAGEMENT_PORT=str(port))
    await tab.reads("h1", "Log in")


async def rename(house: DashboardHouse, name: str, new: str) -> None:
    """So that a statement fails, or does again what it did."""
    await sqlite_file.execute(house.path, f"ALTER TABLE {name} RENAME TO {new}")


async def test_old_figures_are_not_told_to_be_live(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    quicker = "const own = setInterval; setInterval = (does, ms) => own(does, ms / 100)"
    await tab.call("Page.addScriptToEvaluateOnNewDocument", source=quicker)
    await shown(tab, f"{house.address}/requests", "Requests")
    await tab.reads("#live", "Live")
    await rename(house, "ends", "elsewhere")
    await tab.reads("#live", "Not live")
    assert await tab.value("document.querySelector('#live').dataset.state") == "off"
    assert "req_" in await tab.text("#list"), "what was known stays"
    await rename(house, "elsewhere", "ends")
    await until(lambda: _is(tab, "document.querySelector('#live').textContent", "Live"))
    # While somebody reads what they have opened, it is not made anew, and does not pretend to be.
    await tab.value("getSelection().selectAllChildren(document.querySelector('#list tbody td'))")
    await tab.reads("#live", "Held while you read")
    assert await tab.value("document.querySelector('#live').dataset.state") == "off"
    await tab.value("getSelection().removeAllRanges()")
    await until(lambda: _is(tab, "document.querySelector('#live').textContent", "Live"))


async def test_a_filter_that_fails_says_why(tab: Tab, house: DashboardHouse) -> None:
    await house.open()
    await shown(tab, f"{house.address}/usage", "Cost and usage")
    await tab.write("[name=tag]", "x" * 600)
    await tab.press("Enter")
    await tab.reads("h1", "tag: string should have at most 512 characters.")
    await shown(tab, f"{house.address}/requests", "Requests")
    await rename(house, "ends", "elsewhere")
    await tab.write("[name=model]", "gpt-4o")
    await tab.press("Enter")
    await tab.reads("h1", "The database cannot be read at the moment.")
    await rename(house, "elsewhere", "ends")
    await tab.value("location.reload()")
    await tab.reads("h1", "Requests")
    assert await tab.value("location.search") == "?model=gpt-4o"


async def test_what_is_pressed_twice_is_done_once(
    tab: Tab, house: DashboardHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []
    may_end = asyncio.Event()

    async def cancel(_: Actions, request_id: str) -> str:
        began.append(request_id)
        await may_end.wait()
        return "It has ended."

    monkeypatch.setattr(actions, "ANSWER_S", 60.0)
    monkeypatch.setattr(Actions, "_cancel", cancel)
    await house.open()
    await shown(tab, f"{house.address}/nodes?model=llama-3.3-70b", "Nodes")
    await tab.click(".node:first-child .running > summary")
    await tab.click(".node:first-child .running li .act summary")
    press = "document.querySelector('.running .act[open] button').click(); fetch('/static/app.css?pressed')"
    await tab.value(f"setInterval(() => {{ {press} }}, 50)")
    await until(lambda: began and sum(url.endswith("?pressed") for url in tab.requested) > 3)
    may_end.set()
    await tab.reads(".notice.good", "It has ended.")
    assert len(began) == 1


async def act(tab: Tab, within: str, button: str, reason: str = "") -> None:
    await tab.click(f"{within} .act summary")
    if reason:
        await tab.write(f"{within} .act[open] [name=reason]", reason)
    await tab.click(f"{within} .act[open] button[value={button}]")
    await tab.settled()


async def test_every_action_can_be_done_and_is_written_down(tab: Tab, house: DashboardHouse) -> None:
    await house.open(MANAGEMENT_KEY=KEY)
    await log_in(tab, house)
    await shown(tab, f"{house.address}/models", "Models")
    model = "tbody tr:first-child"
    await act(tab, model, "pause", "the provider moves")
    await tab.reads(".notice.good", "Pause gpt-4o: It holds for 3 nodes that are there.")
    await tab.reads(model, "Paused by management, ")
    await tab.reads(model, ": the provider moves")
    await act(tab, model, "resume")
    await tab.reads(".notice.good", "Resume gpt-4o")
    assert "Paused" not in await tab.text(model)
    await act(tab, "tbody tr:nth-child(3)", "drain")
    await tab.reads(".notice.good", "Drain mistral-small")
    await shown(tab, f"{house.address}/nodes?model=llama-3.3-70b", "Nodes")
    node = ".node:first-child > .links"
    await act(tab, node, "pause")
    await tab.reads(".notice.good", "Pause node-rack2-gpu0")
    await tab.reads(".node:first-child", "Paused by management")
    assert await tab.value("location.search.startsWith('?model=llama-3.3-70b&told=')")
    await act(tab, node, "resume")
    await tab.reads(".notice.good", "Resume node-rack2-gpu0")
    await act(tab, node, "drain")
    await tab.reads(".notice.good", "Drain node-rack2-gpu0")
    await tab.click(".node:first-child .running > summary")
    await act(tab, ".node:first-child .running li", "cancel")
    await tab.reads("h1", "No gateway has told the end of this request")
    assert "Back" in await tab.text("main")
    await shown(tab, f"{house.address}/dead-letters", "Dead letters")
    await act(tab, "tbody tr", "replay")  # this broker has no letter
    await until(lambda: tab.value("document.querySelector('.empty h1') !== null"))
    await shown(tab, f"{house.address}/dead-letters", "Dead letters")
    await act(tab, "tbody tr", "discard")
    await tab.reads(".notice.good", "the ledger does not list it from here on")
    await shown(tab, f"{house.address}/actions", "Actions")
    done = await tab.value("[...document.querySelectorAll('tbody .head')].map((each) => each.textContent)")
    assert done == ["Discard", "Replay", "Cancel", "Drain", "Resume", "Pause", "Drain", "Resume", "Pause"]
    # The browser writes down each answer that is an error; nothing else may stand there.
    assert [each for each in tab.complaints if "the server responded with a status of" not in each] == []


ATTACK = "\"'><script>hacked=1</script><img src=x onerror=hacked=1><svg/onload=hacked=1>{{7*7}}</pre>"


async def test_strings_that_attack_are_only_read(tab: Tab, house: DashboardHouse) -> None:
    await house.start()
    names = ("model", "key_id", "node", "finish_reason", "error_code", "message", "user_agent", "host", "version")
    fields = dict.fromkeys((*names, "provider", "upstream_model", "endpoint"), ATTACK)
    tags = {ATTACK[:60]: ATTACK}
    await house.publish(billed(0, **fields, tags=tags, attempt_id="att_0", time=house.sample.iso))
    for number, kind in enumerate(("request.cost", "request.failed", "request.dead")):
        told = request_data(number, **fields, attempt_id=f"att_{number}0", status="failed")
        await house.publish(event(f"e-{number}", kind, told, time=house.sample.iso, subject=ATTACK))
    await house.publish(node_event("n-1", "node.quota_exhausted", node=ATTACK, model=ATTACK, message=ATTACK))
    now = house.sample.now_ms
    odd = Presence(
        node="node-1", name=ATTACK, model=ATTACK.replace("/", ""), type="remote", version=ATTACK, slots=1,
        state="misconfigured", sentence=ATTACK, provider=ATTACK, sent_ms=now, started_ms=now,
    )  # fmt: skip
    await house.tell_presence(odd)
    await house.settled()
    own = [f"/requests/{request_id_of(number)}" for number in range(3)]
    reading = {
        *own,
        "/",
        "/requests",
        "/errors",
        "/nodes",
        "/models",
        "/dead-letters",
        "/usage",
        "/usage?by=tag&days=7",
    }
    for width in (1280, PHONE):
        await tab.looks(width=width, height=800)
        for path in (*PAGES, *own, "/usage?by=key", "/usage?by=node"):
            await tab.open(house.address + path)
            await tab.settled()
            assert await tab.value("typeof hacked") == "undefined", path
            assert await tab.value("document.querySelectorAll('img, main script, svg[onload]').length") == 0, path
            assert await widest(tab) == width, path
            if path in reading:
                assert "<script>hacked=1" in await tab.text("main"), path
    assert tab.complaints == []
    assert only_of(tab, house)
