"""A worker for FastChat that answers at once, as the prompt asks (bench/programs/answer): what FastChat itself costs.

It runs in FastChat's environment, on FastChat's own base of all workers:
``fastchat_worker.py CONTROLLER OWN_URL MODEL``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from fastchat.conversation import get_conv_template
from fastchat.serve.base_model_worker import BaseModelWorker, app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_ONCE = 1024
CONTEXT_LENGTH = 1 << 20
PROMPT_TOKENS = 100
TEMPLATE = "vicuna_v1.1"


class InstantWorker(BaseModelWorker):  # type: ignore[misc]  # FastChat lives in an environment of its own
    """Knows no model."""

    def __init__(self, controller: str, url: str, model: str) -> None:
        super().__init__(controller, url, uuid.uuid4().hex[:8], model, [model], AT_ONCE)
        self.context_len = CONTEXT_LENGTH
        self.init_heart_beat()

    def make_conv_template(self, conv_template: str | None = None, model_path: str | None = None) -> Any:
        """Without asking its table of models, which needs torch."""
        return get_conv_template(TEMPLATE)

    def count_token(self, params: dict[str, Any]) -> dict[str, int]:
        return {"count": PROMPT_TOKENS, "error_code": 0}

    def generate_gate(self, params: dict[str, Any]) -> dict[str, Any]:
        wish = _wish(params)
        text = "".join(_token(wish, number) for number in range(wish["chunks"]))
        time.sleep(wish["chunks"] * wish["pace_us"] / 1e6)
        return _piece(text, wish["chunks"], "stop")

    async def generate_stream_gate(self, params: dict[str, Any]) -> AsyncIterator[bytes]:
        wish = _wish(params)
        text = ""
        began = time.monotonic()
        for number in range(wish["chunks"]):
            if wish["pace_us"]:
                await asyncio.sleep(began + number * wish["pace_us"] / 1e6 - time.monotonic())
            text += _token(wish, number)
            yield json.dumps(_piece(text, number + 1, None)).encode() + b"\0"
        yield json.dumps(_piece(text, wish["chunks"], "stop")).encode() + b"\0"


def _wish(params: dict[str, Any]) -> dict[str, int]:
    found = re.search(r"\[bench ([^\]]*)\]", params["prompt"])
    words = dict(word.split("=") for word in found[1].split()) if found else {}
    return {"pace_us": 0, "stamped": 0, "bytes": 0, **{name: int(value) for name, value in words.items()}}


def _token(wish: dict[str, int], number: int) -> str:
    stamp = f"@{time.monotonic_ns()}" if wish["stamped"] else ""
    return f"token-{number:04d}{stamp}".ljust(wish["bytes"] - 1, ".") + " "


def _piece(text: str, tokens: int, finish: str | None) -> dict[str, Any]:
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": PROMPT_TOKENS + tokens,
    }
    return {"text": text, "error_code": 0, "usage": usage, "finish_reason": finish}


if __name__ == "__main__":
    controller, url, model = sys.argv[1:]
    InstantWorker(controller, url, model)
    uvicorn.run(app, host="127.0.0.1", port=urlsplit(url).port or 0, log_level="info")
