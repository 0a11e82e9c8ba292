"""``POST /v1/embeddings``. Inputs longer than the model reads are cut, taken in chunks as FastChat does, or refused."""

from __future__ import annotations

import asyncio
import base64
from array import array
from typing import TYPE_CHECKING, Any

from workernode.local.server.front.asked import Embedding, read, too_long
from workernode.local.server.front.problem import Problem
from workernode.local.server.words import Embed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workernode.local.server.front.room import Room
    from workernode.local.server.front.sending import Sender

INPUTS_MAX = 2048


async def answer(room: Room, body: bytes, sender: Sender) -> None:
    """A vector for each input. Raises :class:`Problem`."""
    asked = read(body, Embedding)
    if asked.encoding_format not in (None, "float", "base64"):
        raise Problem("encoding_format is float or base64.", param="encoding_format")
    size = room.ready.embedding_dimensions
    if asked.dimensions is not None and asked.dimensions > size:
        raise Problem(f"This model's vectors have {size} dimensions.", param="dimensions")
    texts = _inputs(asked.input)
    inputs = await asyncio.to_thread(lambda: [_tokens(room, each) for each in texts])  # long ones take seconds
    if not all(tokens for tokens, _ in inputs):
        raise _empty()  # of blanks some tokenizers leave nothing
    chunks = [
        chunks_of(tokens, room.ready.context_length, room.flags.embedding_input, ends=ends) for tokens, ends in inputs
    ]
    async with room.client.call() as call:
        call.submit(lambda number: Embed(number, [chunk for each in chunks for chunk in each]))
        vectors = iter((await call.word()).vectors)
    found = [joined([next(vectors) for _ in each], [len(chunk) for chunk in each]) for each in chunks]
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(vector, asked)}
        for index, vector in enumerate(found)
    ]
    count = sum(len(chunk) for each in chunks for chunk in each)
    counts = {"prompt_tokens": count, "total_tokens": count}
    await sender.whole({"object": "list", "data": data, "model": room.name, "usage": counts})


def chunks_of(tokens: list[int], tokens_max: int, mode: str, *, ends: bool = False) -> list[list[int]]:
    """What is read of an input: itself, its beginning, or all of it in parts. ``ends``: the tokenizer has put its last
    token there, which ends each text. Raises :class:`Problem`."""
    if len(tokens) <= tokens_max:
        return [tokens]
    if mode == "refuse":
        raise too_long(len(tokens), tokens_max, "input")
    if mode == "cut":
        return [[*tokens[: tokens_max - 1], tokens[-1]]] if ends else [tokens[:tokens_max]]
    return [tokens[start : start + tokens_max] for start in range(0, len(tokens), tokens_max)]


def _inputs(field: Any) -> list[Any]:
    if isinstance(field, str) or (field and isinstance(field[0], int)):
        field = [field]
    if not field or any(each in ("", []) for each in field):
        raise _empty()
    if len(field) > INPUTS_MAX:
        raise Problem(f"There are more than {INPUTS_MAX} inputs.", param="input")
    return list(field)


def _empty() -> Problem:
    return Problem("There is no input, or an empty one.", param="input")


def _tokens(room: Room, each: Any) -> tuple[list[int], bool]:
    if isinstance(each, str):
        tokens = room.tokens.of_text(each)
        return tokens, room.tokens.is_textless(tokens[-1:])
    if not isinstance(each, list) or not all(type(n) is int and 0 <= n < room.ready.vocabulary for n in each):
        raise Problem("An input is a text, or a list of this model's tokens.", param="input")
    return each, False


def joined(vectors: list[bytes], lengths: list[int]) -> array[float]:
    """The mean of vectors by their chunks' lengths, normalised."""
    parts = [array("f", vector) for vector in vectors]
    if len(parts) == 1:
        return _unit(parts[0])
    total = [0.0] * len(parts[0])
    for part, length in zip(parts, lengths, strict=True):
        for place, value in enumerate(part):
            total[place] += value * length
    return _unit(total)


def _unit(vector: Sequence[float]) -> array[float]:
    norm = sum(value * value for value in vector) ** 0.5 or 1.0
    return array("f", [value / norm for value in vector])


def _shown(vector: array[float], asked: Embedding) -> Any:
    if asked.dimensions is not None and asked.dimensions < len(vector):
        vector = _unit(vector[: asked.dimensions])
    return base64.b64encode(vector.tobytes()).decode() if asked.encoding_format == "base64" else vector.tolist()
