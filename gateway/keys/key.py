"""A client, as the key shows that it brings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Key:
    """A client, by the key that it showed, and what it may do. None means: without a limit."""

    name: str
    models: frozenset[str] | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    concurrent_max: int | None = None
    expires_ms: int | None = None
    """Unix milliseconds."""
    tags: tuple[tuple[str, str], ...] = ()
    """What its requests are counted under, whatever they say themselves."""

    @property
    def is_limited(self) -> bool:
        """Whether anything of it must be counted."""
        return (self.requests_per_min, self.tokens_per_min, self.concurrent_max) != (None, None, None)
