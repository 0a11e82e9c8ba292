"""The client of the proof sees what is lost: a figure of nothing lost would say nothing otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.cluster import asking, page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = "All is well."


def _chunk(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class Server:
    """Answers by a script, one word for each request, and well when that has ended."""

    def __init__(self) -> None:
        self.script: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        word = self.script.pop(0) if self.script else "well"
        if word == "refuse":
            return web.json_response({"error": {"message": "No."}}, status=503, headers={"retry-after": "0"})
        text = "Something else." if word == "differ" else GOOD
        if not (await request.json()).get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(
                {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_chunk(text))
        if word != "break":
            await response.write(_chunk("", "stop") + b"data: [DONE]\n\n")
        return response


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, str]]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody-asks-for-it")
    scripted = Server()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", scripted.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield scripted, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def _outcome(url: str, capsys: pytest.CaptureFixture[str], *, retries: int) -> dict[str, Any]:
    await asking.main(url, "m", "6", "20", str(retries))
    begun, outcome = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert begun == {"begun": True}
    return dict(outcome)


async def test_what_is_refused_broken_or_another_answer_is_counted(
    server: tuple[Server, str], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted, url = server
    # Of the six that follow the first one every second is a stream.
    scripted.script = ["well", "refuse", "break", "differ", "well", "well", "well"]
    outcome = await _outcome(url, capsys, retries=0)
    assert (outcome["asked"], outcome["answered"], outcome["retries"]) == (6, 3, 0)
    refused, broken, other = outcome["troubles"]
    assert "503" in refused
    assert "without its end" in broken
    assert "Something else." in other


async def test_what_is_tried_again_is_counted_too(
    server: tuple[Server, str], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted, url = server
    scripted.script = ["well", "refuse"]
    outcome = await _outcome(url, capsys, retries=2)
    assert (outcome["asked"], outcome["answered"], outcome["retries"]) == (6, 6, 1)
    assert outcome["latest_ms"] >= outcome["p50_ms"] > 0


def test_the_page_shows_the_recorded_run() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.written()
