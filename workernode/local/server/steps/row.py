"""One sequence of tokens that is being generated: a choice of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workernode.local.server.steps.extents import Extent


@dataclass(eq=False)
class Row:
    """``tokens`` are the prompt's and then the generated ones; the cache holds the first ``computed``."""

    request: int
    choice: int
    tokens: list[int]
    max_tokens: int
    prompt_length: int = field(init=False)
    computed: int = 0
    extent: Extent | None = None
    arrived: int = 0
    """Its number in order of arrival."""

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def generated(self) -> int:
        """How many tokens were generated."""
        return len(self.tokens) - self.prompt_length

    @property
    def decodes(self) -> bool:
        """Whether only its last token is still to be computed, and not (a part of) a prompt."""
        return self.computed == len(self.tokens) - 1 and self.generated > 0


@dataclass(frozen=True)
class Part:
    """Tokens ``start`` to ``end`` of a row, to be computed in one step. The last part of a row yields a token."""

    row: Row
    start: int
    end: int

    @property
    def yields(self) -> bool:
        """Whether a token follows from it."""
        return self.end == len(self.row.tokens)


@dataclass(frozen=True)
class Move:
    """The first ``tokens`` of an extent go to another."""

    source: Extent
    target: Extent
    tokens: int
