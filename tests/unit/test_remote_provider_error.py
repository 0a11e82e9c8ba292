"""Errors as providers word them: how their bodies are read, and when to come back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workernode.remote.provider_error import ProviderError, provider_error, retry_after_s

HTML = b"<html><body>Bad Gateway</body></html>"
MIDNIGHT_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def openai(message: str = "No.", **others: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": "t", "param": "p", "code": "c", **others}}).encode()


def passed_on(raw: str) -> bytes:
    """OpenRouter's form of what the provider behind it said."""
    return openai("Provider returned error", type=None, param=None, code=400, metadata={"raw": raw})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (openai(), ProviderError("No.", "t", "c", "p")),
        (openai(code=429, param=None, type=None), ProviderError("No.", None, "429", None)),
        (b'{"error":"model not found"}', ProviderError("model not found")),
        (b'{"error":"bad","error_type":"x","type":"validation"}', ProviderError("bad", "validation")),
        (b'{"object":"error","message":"m","type":"T","code":400}', ProviderError("m", "T", "400")),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', ProviderError("m", "overloaded_error")),
        (b'[{"error":{"code":400,"message":"m","status":"INVALID"}}]', ProviderError("m", "INVALID", "400")),
        (b'{"message":"Unauthorized","request_id":"r"}', ProviderError("Unauthorized")),
        (
            b'{"message":{"detail":[{"loc":["body","n"],"msg":"Not permitted"}]},"type":"t"}',
            ProviderError("n: Not permitted", "t", None, "n"),
        ),
        (passed_on('{"error":{"message":"m"}}'), ProviderError("m", None, "400")),
        (passed_on("plain"), ProviderError("plain", None, "400")),
        (
            openai("m", type=None, param=None, code=402, metadata={"limit_source": "s", "reason": "r", "raw": 1}),
            ProviderError("m", "r", "402"),
        ),
        (openai("m", code=429, metadata={"reason": ["r"], "error_type": "e"}), ProviderError("m", "t", "429", "p")),
        (openai("m", metadata="r"), ProviderError("m", "t", "c", "p")),
        (openai("m", metadata={"raw": "r"}), ProviderError("m", "t", "c", "p")),
        (b'{"detail":["odd"]}', ProviderError('["odd"]')),
        (b'{"detail":{"msg":"m","loc":["body","n"]}}', ProviderError("n: m", None, None, "n")),
        (b'{"error":{"message":"m","type":"","code":"","param":""}}', ProviderError("m")),
        (b'{"error":true,"message":"m"}', ProviderError("m")),
        (b'{"error":"","message":"m"}', ProviderError("m")),
        (b'{"text":"m","error_code":50002}', ProviderError("m", None, "50002")),
        (b'{"error_code":"BAD_REQUEST","message":"m"}', ProviderError("m", None, "BAD_REQUEST")),
        (b'{"errors":[{"message":"m","code":5007},{"message":"n"}],"messages":[]}', ProviderError("m", None, "5007")),
        (b'{"errors":{"n":["m"]},"title":"t"}', None),
        (b'{"errors":["m"]}', None),
        (b'{"detail":"Not Found"}', ProviderError("Not Found")),
        (b'{"detail":[{"loc":["body"]}]}', ProviderError('[{"loc":["body"]}]')),
        (b'{"error":{"message":["odd"],"code":true}}', ProviderError()),
        (b"{}", None),
        (b"[]", None),
        (b'"text"', None),
        (HTML, None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 50000, None),
    ],
)
def test_an_error_body_is_read_in_the_shapes_that_providers_use(body: bytes, expected: ProviderError | None) -> None:
    assert provider_error(body) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "x-ms-retry-after-ms": "1250"}, 1.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT"}, 0.0),
        ({"retry-after": "99999999"}, 86400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, MIDNIGHT_S) == expected
