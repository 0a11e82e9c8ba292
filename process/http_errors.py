"""OpenAI's error JSON, written here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from wire.errors import ErrorBody

_encoder = msgspec.json.Encoder()


def error_json(error: ErrorBody) -> bytes:
    """``{"error": {message, type, param, code}}``, all four keys always."""
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return _encoder.encode({"error": fields})
