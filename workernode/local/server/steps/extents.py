"""Where rows lie in the KV cache: contiguous extents of doubling sizes (a buddy allocator). Pure bookkeeping.

Contiguous, and not in pages: a step then reads keys and values where they are, through views, without a kernel of its
own. A row that outgrows its extent moves to one of twice the size. What is lost is at most half of an extent, and on a
CPU not even that: memory that was never written is no memory.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT_TOKENS = 64
"""The smallest extent."""


@dataclass(frozen=True)
class Extent:
    """Tokens ``start`` to ``start + size`` of the cache."""

    start: int
    size: int


def size_for(tokens: int) -> int:
    """The size of the extent that so many tokens take."""
    size = UNIT_TOKENS
    while size < tokens:
        size *= 2
    return size


class Extents:
    """The extents of a cache of ``tokens``, rounded down to whole units. The lowest free place is taken first, so that
    rows lie side by side."""

    def __init__(self, tokens: int) -> None:
        self._free: dict[int, set[int]] = {}
        self.tokens = tokens - tokens % UNIT_TOKENS
        self.used = 0
        start = 0
        while self.tokens - start >= UNIT_TOKENS:
            size = UNIT_TOKENS << ((self.tokens - start) // UNIT_TOKENS).bit_length() - 1
            self._free.setdefault(size, set()).add(start)
            start += size

    def take(self, tokens: int) -> Extent | None:
        """An extent for so many tokens, or None if no free one is large enough."""
        wanted = size_for(tokens)
        sizes = [size for size, starts in self._free.items() if size >= wanted and starts]
        if not sizes:
            return None
        size = min(sizes)
        start = min(self._free[size])
        self._free[size].remove(start)
        while size > wanted:
            size //= 2
            self._free.setdefault(size, set()).add(start + size)
        self.used += wanted
        return Extent(start, wanted)

    def fits(self, tokens: int) -> bool:
        """Whether a free one is large enough."""
        return any(size >= tokens and starts for size, starts in self._free.items())

    def give(self, extent: Extent) -> None:
        """Take an extent back, and join it with its free neighbour to what it was split from."""
        self.used -= extent.size
        start, size = extent.start, extent.size
        while (start ^ size) in (free := self._free.setdefault(size, set())):
            free.remove(start ^ size)
            start, size = min(start, start ^ size), size * 2
        self._free[size].add(start)
