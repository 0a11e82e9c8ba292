"""What a client may do wrong at completions and embeddings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.bad_input.rows import CANARY, MISSING, MODEL, REFUSED, Row, bad
from tests.raw_http import JSON, exchange, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

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


def rows_of(path: str, good: dict[str, Any]) -> list[Row]:
    """What all three have in common, and the fields of this one."""
    prompt = PROMPT_OF[path]
    name = prompt.encode()

    def at(body: Any, param: str | None, code: str = "invalid_value") -> Row:
        return bad(f"{path}-{body!r}"[:60], body, param, code, path=path)

    rows = [at({**good, prompt: value}, prompt + where) for value, where in PROMPTS]
    for field, values in FIELDS[path].items():
        rows += [at({**good, field: value}, field) for value in values]
    rows += [
        at({field: value for field, value in good.items() if field != prompt}, prompt, MISSING),
        at({**good, "api_base": CANARY}, "api_base", REFUSED),
        at({**good, "prompt_embeds": CANARY}, "prompt_embeds", REFUSED),
        at(b'{"%s": "\\ud800"}' % name, None, "invalid_json"),
        at(b'{"%s": %s}' % (name, b"[" * 10_000), None, "invalid_json"),
        at(b"", None, "invalid_json"),
        at(b"[]", None),
    ]
    if path == ENGINES:
        return rows
    rows += [at({**good, "model": value}, "model") for value in ("", None, 5, "x" * 257)]
    return [*rows, at({prompt: CANARY}, "model", MISSING)]


ROWS = [
    *(row for path, good in GOOD.items() for row in rows_of(path, good)),
    *(
        bad(f"{COMPLETIONS}-{param}-{fields!r}"[:60], {**GOOD[COMPLETIONS], **fields}, param, path=COMPLETIONS)
        for param, fields in (
            ("best_of", {"n": 3, "best_of": 2}),
            ("best_of", {"best_of": 2, "stream": True}),
            ("n", {"prompt": ["a"] * 100, "n": 21}),
        )
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_what_is_no_prompt_or_input_is_refused(place: Place, row: Row) -> None:
    await place.refuses(row)


@pytest.mark.parametrize("path", GOOD)
async def test_what_is_right_is_answered(place: Place, path: str) -> None:
    prompt = PROMPT_OF[path]
    for odd in ({}, {prompt: [7]}, {"mine": {"deep": [None]}}, {"user": ""}):
        answer = await exchange(place.port, post({**GOOD[path], **odd}, path=path))
        assert answer.status == 200, answer
        assert json.loads(answer.body)["model"] == MODEL


@pytest.mark.parametrize("path", [*GOOD, "/api/v1/chat/completions", "/api/v1/token_check"])
async def test_an_endpoint_takes_posts_of_json_alone(place: Place, path: str) -> None:
    request = post(b"{}", "content-type: text/plain", JSON[1], "content-length: 2", path=path)
    answer = await exchange(place.port, request)
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
