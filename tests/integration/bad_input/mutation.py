"""Good bodies of every endpoint, and what becomes of them when their parts or their bytes are changed."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from tests.integration.bad_input.rows import MODEL

if TYPE_CHECKING:
    from random import Random

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
CORPUS: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]},
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
                },
                {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "x"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [TOOL],
            "tool_choice": "auto",
            "temperature": 0.5,
            "n": 2,
            "stop": ["a"],
            "logit_bias": {"5": 1},
            "seed": 7,
            "user": "é\u2028",
        },
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"properties": {"a": {"pattern": "^a+$"}, "b": {"$ref": "#"}}}},
            },
            "max_completion_tokens": 5,
            "logprobs": True,
            "top_logprobs": 2,
            "chat_template_kwargs": {"thinking": False},
        },
    ],
    "/api/v1/chat/completions": [{"model": MODEL, "messages": "hi", "repetition_penalty": 1.2}],
    "/v1/completions": [
        {"model": MODEL, "prompt": "hi", "max_tokens": 5, "echo": True, "logprobs": 1},
        {"model": MODEL, "prompt": ["a", "b"], "n": 2, "best_of": 2, "suffix": "x"},
        {"model": MODEL, "prompt": [[1, 2], [3]], "stream": True},
    ],
    "/v1/embeddings": [
        {"model": MODEL, "input": "hi", "dimensions": 8},
        {"model": MODEL, "input": ["a", "b"], "encoding_format": "base64", "user": "me"},
        {"model": MODEL, "input": [1, 2, 3]},
    ],
    f"/v1/engines/{MODEL}/embeddings": [{"input": [[1], [2, 3]]}],
    "/api/v1/token_check": [{"prompts": [{"model": MODEL, "prompt": "hi", "max_tokens": 5}, {"prompt": "x"}]}],
}
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**31,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "\0",
    "\ud800",
    "x" * 5000,
    "data: [DONE]\n\n",
    "\r\n\u2028",
    "../../x",
    [],
    {},
    [[]],
    {"": {}},
    [1, "a", None],
)
STRUCTURAL_MAX = 3
PIECES = (b"\x00", b"\xff", b'"', b"{", b"]", b",", b":", b"\\", b"\\u", b"1e999", b"[" * 200, b"\n")


def mutated(random: Random, body: dict[str, Any]) -> bytes:
    """The body with some parts changed, then some bytes."""
    changed = copy.deepcopy(body)
    for _ in range(random.randint(0, STRUCTURAL_MAX)):
        _change(random, changed)
    data = bytearray(json.dumps(changed, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass"))
    for _ in range(random.choice((0, 0, 0, 1, 3))):
        place = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                data[place : place + 1] = bytes([random.randrange(256)])
            case 1:
                data[place:place] = random.choice(PIECES)
            case 2:
                del data[place : place + random.randint(1, 20)]
            case _:
                data[place:place] = data[: random.randint(0, 40)]
    return bytes(data)


def _change(random: Random, root: dict[str, Any]) -> None:
    """One part is taken away, replaced, doubled, wrapped, or put under another name."""
    parts = list(_parts(root))
    if not parts:
        return
    holder, key = random.choice(parts)
    match random.randrange(5):
        case 0:
            del holder[key]
        case 1:
            holder[key] = copy.deepcopy(random.choice(ODD))
        case 2:
            holder[key] = [copy.deepcopy(holder[key])] * random.choice((1, 2, 40))
        case 3:
            holder[key] = {"a": holder[key]}
        case _:
            other, name = random.choice(parts)
            holder[key] = copy.deepcopy(other.get(name) if isinstance(other, dict) else root)


def _parts(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _parts(inner)
