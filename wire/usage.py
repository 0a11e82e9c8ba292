"""Token counts of an answer."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wire.number import INTEGER_MAX

Tokens = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
REQUEST_TOKENS_MAX = 10**9
"""Tokens of one prompt or answer: what tells of more is forged, or an error, and the ledger takes no charge of it."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer used, in tokens. ``cached`` is part of ``prompt``, ``reasoning`` part of ``completion``.

    ``estimated`` is true where the upstream gave no figures and the node counted itself.
    """

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens
