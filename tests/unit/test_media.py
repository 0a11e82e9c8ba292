"""What of a request's body is text."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.media import text_bytes


@pytest.mark.parametrize("escaped", [False, True])
def test_images_are_no_text(escaped: bool) -> None:
    image = base64.b64encode(bytes(range(256)) * 300).decode()
    body = {"messages": [{"content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]}]}
    written = json.dumps(body)
    written = written.replace("/", "\\/") if escaped else written
    assert json.loads(written) == body
    assert len(image) < len(written)
    assert text_bytes(written.encode()) == len(json.dumps(body).replace(f"data:image/png;base64,{image}", ""))


@pytest.mark.parametrize("text", ["no image", "data:image/png;base64 is how", "data:application/pdf;base64,QUJD"])
def test_all_else_is(text: str) -> None:
    body = json.dumps({"messages": [{"content": text}]}).encode()
    assert text_bytes(body) == len(body)
