"""What the fake provider says to prompts and inputs: pure functions of a request, and the JSON around them.

The answer to a prompt is its first word and ``tokens=N`` words after it, as of a conversation's; of several choices of
one prompt each ends with its number. A prompt given as tokens has the word ``k`` and their sum as its first.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

DEFAULT_TOKENS = 8
DIMENSIONS = 4
ID = "cmpl-upstream"
CREATED_S = 1_700_000_000

Prompt = str | list[int]


def prompts_of(body: dict[str, Any]) -> list[Prompt]:
    """The prompts or inputs of a request."""
    field = body["prompt"] if "prompt" in body else body["input"]
    return [field] if isinstance(field, str) or isinstance(field[0], int) else field


def words_of(prompt: Prompt) -> str:
    """A prompt as words."""
    return prompt if isinstance(prompt, str) else f"k{sum(prompt)}"


def oracle_texts(body: dict[str, Any]) -> list[str]:
    """The text of each choice, by its index."""
    n = int(body.get("n") or 1)
    texts = []
    for prompt in prompts_of(body):
        words = words_of(prompt).split() or ["r"]
        count = next((int(word[7:]) for word in words if word.startswith("tokens=")), DEFAULT_TOKENS)
        answer = " ".join([words[0], *(f"t{i}" for i in range(count))])
        before = words_of(prompt) if body.get("echo") else ""
        texts += [before + answer + (f" c{choice}" if n > 1 else "") for choice in range(n)]
    return texts


def oracle_vectors(body: dict[str, Any]) -> list[list[float]]:
    """A unit vector for each input, as float32 holds it."""
    size = int(body.get("dimensions") or DIMENSIONS)
    found = []
    for prompt in prompts_of(body):
        raw = hashlib.shake_128(words_of(prompt).encode()).digest(size)
        length = math.hypot(*(byte + 1 for byte in raw))
        found.append(list(struct.unpack(f"<{size}f", struct.pack(f"<{size}f", *((b + 1) / length for b in raw)))))
    return found


def oracle_text_usage(body: dict[str, Any]) -> dict[str, Any]:
    """What a completion costs: a token per word, or per token."""
    completion = sum(len(text.split()) for text in oracle_texts({**body, "echo": False}))
    return {
        "prompt_tokens": _prompt_tokens(body),
        "completion_tokens": completion,
        "total_tokens": _prompt_tokens(body) + completion,
    }


def whole_text(body: dict[str, Any]) -> dict[str, Any]:
    """A completion."""
    choices = [_choice(index, text, "stop") for index, text in enumerate(oracle_texts(body))]
    return _head(body) | {"choices": choices, "usage": oracle_text_usage(body)}


def text_chunks(body: dict[str, Any], *, without_finish: bool = False) -> list[dict[str, Any]]:
    """The chunks of a streamed completion, its choices interleaved."""
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    null_usage = {"usage": None} if asked else {}
    texts = oracle_texts(body)
    parts = [[f" {word}" if place else word for place, word in enumerate(text.split(" "))] for text in texts]
    chunks = [
        _head(body) | {"choices": [_choice(index, own[place], None)]} | null_usage
        for place in range(max(map(len, parts)))
        for index, own in enumerate(parts)
        if place < len(own)
    ]
    if not without_finish:
        chunks += [_head(body) | {"choices": [_choice(i, "", "stop")]} | null_usage for i in range(len(texts))]
    if asked:
        chunks.append(_head(body) | {"choices": [], "usage": oracle_text_usage(body)})
    return chunks


def vectors(body: dict[str, Any]) -> dict[str, Any]:
    """The answer with embeddings."""

    def shown(vector: list[float]) -> Any:
        packed = struct.pack(f"<{len(vector)}f", *vector)
        return base64.b64encode(packed).decode() if body.get("encoding_format") == "base64" else vector

    data = [
        {"object": "embedding", "index": index, "embedding": shown(vector)}
        for index, vector in enumerate(oracle_vectors(body))
    ]
    usage = {"prompt_tokens": _prompt_tokens(body), "total_tokens": _prompt_tokens(body)}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def _head(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": ID, "object": "text_completion", "created": CREATED_S, "model": body.get("model")}


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def _prompt_tokens(body: dict[str, Any]) -> int:
    return sum(len(each.split()) if isinstance(each, str) else len(each) for each in prompts_of(body))
