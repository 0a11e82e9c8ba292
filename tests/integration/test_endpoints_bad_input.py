"""What a client may do wrong at completions and embeddings, row by row; what all endpoints share is in chat's table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import exchange, post
from tests.watched_broker import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "CANARY"
MODEL = "static"
MISSING = "missing_required_parameter"
COMPLETIONS, EMBEDDINGS, ENGINES = "/v1/completions", "/v1/embeddings", f"/v1/engines/{MODEL}/embeddings"
GOOD: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"model": MODEL, "prompt": CANARY},
    EMBEDDINGS: {"model": MODEL, "input": CANARY},
    ENGINES: {"input": CANARY},
}
PROMPTS: list[tuple[Any, str]] = [
    (None, ""),
    (1, ""),
    (True, ""),
    ({}, ""),
    ([], ""),
    ([None], "[0]"),
    ([{}], "[0]"),
    ([CANARY, 1], "[1]"),
    ([1, CANARY], "[1]"),
    ([1, -1], "[1]"),
    ([1, 1.5], "[1]"),
    ([2**31], "[0]"),
    ([10**400], "[0]"),
    ([[1], CANARY], "[1]"),
    ([[]], "[0]"),
    ([[[1]]], "[0][0]"),
    ([CANARY] * 2049, ""),
    ([[1]] * 2049, ""),
    ([1] * 300_001, ""),
]
FIELDS: dict[str, dict[str, tuple[Any, ...]]] = {
    COMPLETIONS: {
        "n": (0, -1, 129, 1.5, True, "1"),
        "best_of": (0, -1, 129, 1.5, True, "1"),
        "max_tokens": (-1, 2**31, True, "5"),
        "logprobs": (-1, 6, True, "1"),
        "temperature": (-0.1, 2.1, True, "0"),
        "top_p": (-0.1, 1.1),
        "presence_penalty": (-2.1, 2.1),
        "seed": (2**63, 1.5),
        "stop": (["a"] * 17, 5),
        "echo": (1, "true"),
        "suffix": (1, []),
        "logit_bias": ({CANARY: 1},),
        "stream_options": ({"include_usage": True},),
        "user": ("x" * 513,),
    },
    EMBEDDINGS: {
        "encoding_format": (CANARY, 1, []),
        "dimensions": (0, -1, 65_537, 1.5, True, "8"),
        "input": ("", [CANARY, ""]),
        "user": (5,),
    },
    ENGINES: {},
}
PROMPT_OF = {COMPLETIONS: "prompt", EMBEDDINGS: "input", ENGINES: "input"}

Row = tuple[str, Any, str | None, str]
"""Path, body, ``param`` and ``code``."""


def rows_of(path: str, good: dict[str, Any]) -> list[Row]:
    """What all three have in common, and the fields of this one."""
    prompt = PROMPT_OF[path]
    name = prompt.encode()
    rows: list[Row] = [(path, {**good, prompt: value}, prompt + where, "invalid_value") for value, where in PROMPTS]
    for field, values in FIELDS[path].items():
        rows += [(path, {**good, field: value}, field, "invalid_value") for value in values]
    rows += [
        (path, {field: value for field, value in good.items() if field != prompt}, prompt, MISSING),
        (path, {**good, "api_base": CANARY}, "api_base", "unsupported_parameter"),
        (path, {**good, "prompt_embeds": CANARY}, "prompt_embeds", "unsupported_parameter"),
        (path, b'{"%s": "\\ud800"}' % name, None, "invalid_json"),
        (path, b'{"%s": %s}' % (name, b"[" * 10_000), None, "invalid_json"),
        (path, b"", None, "invalid_json"),
        (path, b"[]", None, "invalid_value"),
    ]
    if path == ENGINES:
        return rows
    models: tuple[Any, ...] = ("", None, 5, "x" * 257)
    rows += [(path, {**good, "model": value}, "model", "invalid_value") for value in models]
    return [*rows, (path, {prompt: CANARY}, "model", MISSING)]


ROWS = [
    *(row for path, good in GOOD.items() for row in rows_of(path, good)),
    (COMPLETIONS, {**GOOD[COMPLETIONS], "n": 3, "best_of": 2}, "best_of", "invalid_value"),
    (COMPLETIONS, {**GOOD[COMPLETIONS], "best_of": 2, "stream": True}, "best_of", "invalid_value"),
    (COMPLETIONS, {"model": MODEL, "prompt": ["a"] * 100, "n": 21}, "n", "invalid_value"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[tuple[int, Watch]]:
    """The gateway's port, and what was published."""
    watch, server = Watch(), MemoryServer()
    fleet = InProcessFleet(lambda: watch.over(MemoryBroker(server)), {})
    await fleet.node()
    yield (await fleet.gateway(MODELS=MODEL)).port, watch
    await fleet.aclose()


@pytest.mark.parametrize(("path", "body", "param", "code"), ROWS, ids=lambda each: repr(each)[:40])
async def test_bad_input(place: tuple[int, Watch], path: str, body: Any, param: str | None, code: str) -> None:
    port, watch = place
    before = watch.requests
    answer = await exchange(port, post(body, path=path))
    assert answer.status == 400, answer
    assert (answer.error["code"], answer.error["param"]) == (code, param), answer.error
    assert answer.error["type"] == "invalid_request_error"
    assert CANARY not in str(answer)
    assert watch.requests == before


@pytest.mark.parametrize("path", GOOD)
async def test_what_is_right_is_answered(place: tuple[int, Watch], path: str) -> None:
    port, _ = place
    prompt = PROMPT_OF[path]
    for odd in ({}, {prompt: [7]}, {"mine": {"deep": [None]}}, {"user": ""}):
        answer = await exchange(port, post({**GOOD[path], **odd}, path=path))
        assert answer.status == 200, answer
        assert json.loads(answer.body)["model"] == MODEL


@pytest.mark.parametrize("path", [*GOOD, "/api/v1/chat/completions", "/api/v1/token_check"])
async def test_an_endpoint_takes_posts_of_json_alone(place: tuple[int, Watch], path: str) -> None:
    port, _ = place
    answer = await exchange(port, post(b"{}", "content-type: text/plain", "content-length: 2", path=path))
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
