"""Who is in at this moment: a permit per request of a limited key, and the tokens that are held for it. No I/O.

Permits are this process's own. A store that gateways share could not tell a slow request from a gateway that died with
it, so ``concurrent_max`` holds for each gateway. The processes of one gateway share :class:`Places`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from wire.errors import RateLimited

if TYPE_CHECKING:
    from gateway.keys.key import Key

RETRY_MS = 1000
"""When requests in progress are in the way nobody knows when one ends: a client should look again after this."""


class Places(Protocol):
    """The requests of limited keys in all processes of this gateway."""

    async def enter(self, name: str, concurrent_max: int) -> bool | None:
        """Take a place; False if all are taken, None if that cannot be known. Only after True :meth:`leave` follows."""

    def leave(self, name: str) -> None:
        """Free the place."""


class Permit:
    """One request's place. ``tokens`` are held for it until its usage is known."""

    def __init__(self, key: Key, tokens: int, held: int) -> None:
        self.key, self.tokens = key, tokens
        self.held = held
        """Tokens that were held for its key when it came, its own among them."""
        self.is_in = True
        self.has_place = False
        """Whether one of :class:`Places` is its own."""
        self.is_held = True


class Permits:
    """All permits of this process, by the name of the key."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Permits inside={dict(self._inside)} held={dict(self._held)}>"

    def __len__(self) -> int:
        return self._inside.total()

    def held(self, name: str) -> int:
        """Tokens that are held for requests of this key."""
        return self._held[name]

    def held_before(self, permit: Permit) -> int:
        """Those for a request and the ones that came before it, at most: who comes later is in nobody's way."""
        return min(permit.held, self._held[permit.key.name])

    def take(self, key: Key, tokens: int) -> Permit:
        """Let one more in. Raises :class:`wire.errors.RateLimited` where ``concurrent_max`` are in already."""
        if key.concurrent_max is not None and self._inside[key.name] >= key.concurrent_max:
            raise too_many(key.concurrent_max)
        self._inside[key.name] += 1
        self._held[key.name] += tokens
        return Permit(key, tokens, self._held[key.name])

    def leave(self, permit: Permit) -> None:
        """Its request has ended, in whatever way. What is held stays until :meth:`release`. Does nothing twice."""
        if permit.is_in:
            permit.is_in = False
            take_off(self._inside, permit.key.name, 1)

    def release(self, permit: Permit) -> None:
        """Its usage is counted, or there is none. Does nothing twice."""
        if permit.is_held:
            permit.is_held = False
            take_off(self._held, permit.key.name, permit.tokens)


def too_many(concurrent_max: int) -> RateLimited:
    """What is told to a key that has all its requests in progress."""
    return RateLimited(
        f"This API key may have {concurrent_max} requests in progress at once, and has them.", retry_after_ms=RETRY_MS
    )


def take_off(counts: Counter[str], name: str, amount: int) -> None:
    """Count down."""
    counts[name] -= amount
    if not counts[name]:
        del counts[name]  # a key that is not in use costs nothing
