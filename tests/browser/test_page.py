"""The page for people in a real browser, at gateways that let everyone in, ask for a key, or have no model."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import KEY
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.browser.tab import Tab
    from tests.in_process import Running

ANSWER = "Because air scatters blue light more than red, it comes to us from everywhere."
PNG_BYTES_MIN = 10_000
"""An empty page of this size is smaller."""


@pytest.fixture
async def fleet() -> AsyncIterator[InProcessFleet]:
    server = MemoryServer()
    started = InProcessFleet(lambda: MemoryBroker(server), {})
    yield started
    await started.aclose()


def hosts(tab: Tab) -> set[str]:
    """Where requests went, but for pictures that stand in the page itself."""
    return {urlsplit(url).netloc for url in tab.requested if not url.startswith(("data:", "about:"))}


async def ask(tab: Tab, prompt: str = "Why is the sky blue?") -> None:
    await tab.write("#prompt", prompt)
    await tab.click("#send")


async def opened(tab: Tab, gateway: Running) -> None:
    await tab.open(f"{gateway.url}/")
    await tab.reads("h1", "WorkerNode")


async def test_a_person_sees_the_model_and_reads_its_answer(tab: Tab, fleet: InProcessFleet, tmp_path: Path) -> None:
    gateway = await fleet.gateway()
    await fleet.node(STATIC_ANSWER=ANSWER)
    await opened(tab, gateway)
    await tab.reads("#models", "static")
    await tab.reads("#models .state", "ready")
    await ask(tab)
    await tab.reads("#answer", ANSWER)
    await tab.reads("#progress", "tokens in")
    assert await tab.value("document.querySelector('#answer').childNodes.length") > 5, "it came in pieces"
    assert await tab.text("#error") == ""
    assert await tab.text("#key-section") == "", "this gateway asks for no key"
    for program in ("#curl", "#python"):
        assert "Why is the sky blue?" in await tab.text(program)
        assert f"{gateway.url}/v1" in await tab.text(program)
    png = await tab.picture()
    (tmp_path / "page.png").write_bytes(png)
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) > PNG_BYTES_MIN
    assert width == 900
    assert height >= 1200
    assert tab.complaints == []
    assert hosts(tab) == {f"127.0.0.1:{gateway.port}"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone(tab: Tab, fleet: InProcessFleet, tmp_path: Path, scheme: str) -> None:
    gateway = await fleet.gateway(MODELS="a-model-with-quite-a-long-name/" + "x" * 100)
    await tab.looks(width=360, height=740, scheme=scheme)
    await opened(tab, gateway)
    await tab.reads("#models", "no node at present")
    await tab.reads("#model-hint", "waits until one comes")
    assert await tab.value("document.documentElement.scrollWidth") == 360
    (tmp_path / f"phone-{scheme}.png").write_bytes(await tab.picture())
    assert tab.complaints == []


async def test_a_gateway_without_a_model_says_so_and_shows_one_that_comes(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway()
    await opened(tab, gateway)
    await tab.reads("#models-notice", "No model is here yet.")
    assert await tab.value("document.querySelector('#send').disabled")
    await fleet.node()
    await tab.reads("#models .state", "ready")
    assert await tab.text("#models-notice") == ""
    assert tab.complaints == []


async def test_a_gateway_with_keys_asks_for_one_and_the_page_keeps_it_to_itself(
    tab: Tab, fleet: InProcessFleet
) -> None:
    gateway = await fleet.gateway(API_KEYS=f"tester:{KEY}")
    await fleet.node(STATIC_ANSWER=ANSWER)
    await opened(tab, gateway)
    await tab.reads("#models-notice", "needs an API key")
    await tab.write("#key", "sk-wrong-wrong-wrong")
    await tab.click("#key-form button")
    await tab.reads("#models-notice", "does not accept this API key")
    await tab.value("document.querySelector('#key').value = ''")
    await tab.write("#key", KEY)
    await tab.click("#key-form button")
    await tab.reads("#models", "static")
    await ask(tab)
    await tab.reads("#answer", ANSWER)
    assert "$API_KEY" in await tab.text("#curl")
    assert KEY not in await tab.value("document.documentElement.outerHTML")
    assert await tab.value("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert not any(KEY in url for url in tab.requested)
    # The browser itself writes down each 401; nothing else may stand there.
    assert [each for each in tab.complaints if "401" not in each] == []


async def test_a_prompt_that_waits_can_be_cancelled(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway(MODELS="slow")
    await opened(tab, gateway)
    await tab.reads("#models", "slow")
    await ask(tab)
    await tab.reads("#progress", "Waiting for the model")
    await tab.click("#cancel")
    await tab.reads("#progress", "Cancelled.")
    assert not await tab.value("document.querySelector('#send').disabled")
    assert tab.complaints == []


async def test_an_error_is_a_sentence(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway(MODELS="slow", REQUEST_TIMEOUT_S="0.2")
    await opened(tab, gateway)
    await tab.reads("#models", "slow")
    await ask(tab)
    await tab.reads("#error", "The request was not answered before its deadline.")
    assert await tab.text("#progress") == ""


async def test_the_shown_programs_survive_quotes_and_markup(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway()
    await fleet.node(STATIC_ANSWER="<img src=x onerror=alert(1)> & <b>bold</b>")
    await opened(tab, gateway)
    await tab.reads("#models", "static")
    await ask(tab, """It's "so" </code><script>alert(1)</script> \\n""")
    await tab.reads("#answer", "<b>bold</b>")
    assert r"""It'\''s \"so\" </code>""" in await tab.text("#curl")
    compiled = await tab.text("#python")
    compile(compiled, "python", "exec")
    assert tab.complaints == []


async def test_copying_says_so(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway(MODELS="static")
    await opened(tab, gateway)
    await tab.reads("#curl", "static")
    await tab.click("[data-copies=curl]")
    await until(lambda: tab.text("#copied"))
    assert tab.complaints == []


async def test_hundreds_of_models_do_not_stand_before_the_prompt_and_what_is_marked_there_stays(
    tab: Tab, fleet: InProcessFleet
) -> None:
    gateway = await fleet.gateway(MODELS=",".join(f"organisation/model-{number:03}" for number in range(200)))
    quicker = "const own = setTimeout; setTimeout = (does, ms) => own(does, ms / 100)"
    await tab.call("Page.addScriptToEvaluateOnNewDocument", source=quicker)
    await opened(tab, gateway)
    await tab.reads("#models", "model-199")
    assert await tab.value("document.querySelector('#prompt').getBoundingClientRect().top") < 1000
    assert await tab.value("document.querySelector('#models').tabIndex") == 0, "the keyboard scrolls it"
    await tab.value("getSelection().selectAllChildren(document.querySelector('#models strong'))")
    asked = len(tab.requested)
    await until(lambda: len(tab.requested) > asked + 3)
    assert await tab.value("getSelection().toString()") == "organisation/model-000"
    assert tab.complaints == []


async def test_one_token_is_told_as_one(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway()
    await opened(tab, gateway)
    measured = "{started: 0, first: 0, usage: {prompt_tokens: 1, completion_tokens: 1}, reason: 'content_filter'}"
    assert "1 token in, 1 out. The provider's filter withheld the rest." in await tab.value(f"summary({measured})")


async def test_an_answer_from_right_to_left_begins_at_the_right(tab: Tab, fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway()
    await fleet.node(STATIC_ANSWER="سلام")
    await opened(tab, gateway)
    await tab.reads("#models", "static")
    await ask(tab, "שלום")
    await tab.reads("#answer", "سلام")
    await tab.value("getSelection().selectAllChildren(document.querySelector('#answer'))")
    room = "document.querySelector('#answer').getBoundingClientRect().right"
    assert await tab.value(f"{room} - getSelection().getRangeAt(0).getBoundingClientRect().right") < 30
    assert tab.complaints == []
