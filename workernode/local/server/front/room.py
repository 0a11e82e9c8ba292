"""What every endpoint has at hand once the model is ready."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workernode.local.server.front.problem import Problem

if TYPE_CHECKING:
    from workernode.local.server.flags import Flags
    from workernode.local.server.front.client import StepClient
    from workernode.local.server.front.tokens import Tokens
    from workernode.local.server.front.tools import ToolFormat
    from workernode.local.server.words import Ready


@dataclass(frozen=True)
class Room:
    """The model, its tokenizer, and the way to the steps."""

    flags: Flags
    client: StepClient
    ready: Ready
    tokens: Tokens
    tool_format: ToolFormat | None

    @property
    def name(self) -> str:
        """What answers call the model."""
        return self.flags.served_name or self.flags.model

    def head(self, kind: str, prefix: str) -> dict[str, Any]:
        """The first fields of an answer, the same in all its chunks."""
        return {
            "id": f"{prefix}-{secrets.token_hex(16)}",
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
        }

    def require_text(self) -> None:
        """Raises :class:`Problem` if the model writes none."""
        if not self.ready.generates:
            raise Problem("This model only makes embeddings.", code="unsupported_endpoint", status=404)


def usage(prompt_tokens: int, completion_tokens: int, reasoning_tokens: int = 0) -> dict[str, Any]:
    """OpenAI's figures. ``reasoning_tokens`` are a part of the completion's."""
    figures: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    if reasoning_tokens:
        figures["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return figures
