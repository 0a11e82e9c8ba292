"""Whom the model server answers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from workernode.local.server.front.app import App

LOADING = SimpleNamespace(progress=SimpleNamespace(state="loading", sentence="It is loaded.", share=0.5))


async def asked(method: str, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, str | None]:
    """The status, and the error's code."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    app = App(LOADING)  # type: ignore[arg-type]
    await app({"type": "http", "method": method, "path": path, "headers": list(headers)}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"]).get("error", {}).get("code")


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://127.0.0.1:8081"])
async def test_no_page_in_a_browser_is_answered_whatever_it_asks_for(origin: bytes) -> None:
    text = (b"content-type", b"text/plain")  # which a browser sends anywhere without asking first
    for method, path in (("POST", "/v1/chat/completions"), ("POST", "/tokenize"), ("GET", "/health")):
        assert await asked(method, path, text, (b"origin", origin)) == (403, "foreign_page")


async def test_a_program_is_answered() -> None:
    assert await asked("POST", "/v1/chat/completions", (b"host", b"127.0.0.1")) == (503, "model_loading")
    assert await asked("GET", "/health") == (503, None)
