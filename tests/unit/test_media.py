"""What of a request's body is text."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.keys.media import text_bytes
from gateway.keys.quota import IMAGE_TOKENS, estimate
from wire.request import Request


@pytest.mark.parametrize("escaped", [False, True])
def test_images_are_no_text(escaped: bool) -> None:
    image = base64.b64encode(bytes(range(256)) * 300).decode()
    body = {"messages": [{"content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]}]}
    written = json.dumps(body)
    written = written.replace("/", "\\/") if escaped else written
    assert json.loads(written) == body
    assert len(image) < len(written)
    assert text_bytes(written.encode()) == len(json.dumps(body).replace(f"data:image/png;base64,{image}", ""))


def test_a_limit_of_tokens_holds_the_same_for_an_image_of_any_size() -> None:
    def request(size: int) -> Request:
        image = base64.b64encode(bytes(size)).decode()
        parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]}).encode()
        return Request(
            request_id="req_1",
            model="m",
            endpoint="chat/completions",
            body=body,
            gateway="gateway-0123",
            received_ms=0,
            deadline_ms=1,
            max_tokens=1,
            images=1,
        )

    held = estimate(request(900_000), 200_000)
    assert held == estimate(request(100), 200_000)
    assert IMAGE_TOKENS < held < 2 * IMAGE_TOKENS


def test_an_image_beside_a_part_that_says_it_has_none_is_no_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = json.dumps({"messages": [{"content": [{"type": "text", "text": "Hi", "image_url": None}, image]}]})
    assert text_bytes(body.encode()) == len(body.replace("data:image/png;base64,AAAA", ""))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"content": "data:image/a;base64,AAAA"}]},
        {"messages": [{"content": [{"type": "text", "text": "data:image/a;base64,AAAA"}]}]},
        {"messages": [{"content": "a"}], "tools": [{"image_url": {"url": "data:image/a;base64,AAAA"}}]},
        {"messages": [{"content": '"image_url": {"url": "data:image/a;base64,AAAA"}'}]},
        {"prompt": "data:image/a;base64,AAAA"},
        {"messages": 1, "x": "data:image/a;base64,AAAA"},
    ],
)
def test_words_that_look_like_an_image_are_words(body: object) -> None:
    written = json.dumps(body).encode()
    assert text_bytes(written) == len(written)


@pytest.mark.parametrize("text", ["no image", "data:image/png;base64 is how", "data:application/pdf;base64,QUJD"])
def test_all_else_is(text: str) -> None:
    body = json.dumps({"messages": [{"content": text}]}).encode()
    assert text_bytes(body) == len(body)
