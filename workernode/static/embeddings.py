"""Vectors without a model: a unit vector from the hash of each input, the same each time."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from wire.errors import InvalidRequest
from workernode.outcome import Answered, Refused
from workernode.prompts import prompts_of
from workernode.static.figures import estimate

if TYPE_CHECKING:
    from workernode.engine import Answer, Job
    from workernode.prompts import Prompt

DIMENSIONS = 8
DIMENSIONS_MAX = 256
"""All inputs are worked on in one go, while nothing else of this process runs."""


class _Body(msgspec.Struct):
    input: Any
    encoding_format: str | None = None
    dimensions: int | None = None


_body = msgspec.json.Decoder(_Body)
_encoder = msgspec.json.Encoder()


async def answer_embeddings(job: Job, answer: Answer) -> Answered | Refused:
    """Write one vector for each input, in their order."""
    body = _body.decode(job.request.body)
    dimensions = body.dimensions or DIMENSIONS
    if dimensions > DIMENSIONS_MAX:
        error = InvalidRequest(f"The static responder has at most {DIMENSIONS_MAX} dimensions.", param="dimensions")
        return Refused(error.body())
    usage = estimate(job.request, text_chars=0)
    data = []
    for index, each in enumerate(prompts_of(body.input)):
        packed = vector(each, dimensions)
        shown = base64.b64encode(packed).decode() if body.encoding_format == "base64" else _floats(packed)
        data.append({"object": "embedding", "index": index, "embedding": shown})
    whole = {
        "object": "list",
        "data": data,
        "model": job.request.model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens},
    }
    await answer.write(_encoder.encode(whole))
    return Answered(usage)


def vector(prompt: Prompt, dimensions: int) -> bytes:
    """A unit vector as little-endian float32, which is what base64 holds and what floats are rounded to."""
    seed = prompt.encode("utf-8", "surrogatepass") if isinstance(prompt, str) else repr(prompt).encode()
    raw = struct.unpack(f"<{dimensions}h", hashlib.shake_256(seed).digest(2 * dimensions))
    parts = [part + 0.5 for part in raw]  # never all zero
    length = math.hypot(*parts)
    return struct.pack(f"<{dimensions}f", *(part / length for part in parts))


def _floats(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)
