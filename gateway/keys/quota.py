"""The limits of keys: requests and tokens per minute, and requests at once.

Requests are counted in a moving window when they are let in. Tokens are not known then: an estimate is *held*, and what
was really used is counted once the request has ended. Counted and held together never exceed the limit when a request
is let in. What several gateways hold is their own; what they count they share, if they share a store.
"""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from limits import RateLimitItemPerMinute
from limits.aio.storage.base import SlidingWindowCounterSupport
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from prometheus_client import Counter, Gauge

from gateway.keys.limit_storage import close_storage, is_memory, open_storage
from gateway.keys.media import text_bytes
from gateway.keys.permits import RETRY_MS, Permits, too_many
from gateway.keys.token_window import WINDOW_S, TokenWindow, go_duration
from process.logging import Log
from process.metrics import at_zero
from wire.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from gateway.keys.key import Key
    from gateway.keys.permits import Permit, Places
    from process.lifecycle import Tasks
    from wire.request import Request

    Headers = list[tuple[bytes, bytes]]

T = TypeVar("T")
log = Log("gateway")

STORAGE_WAIT_S = 1.0
AWAY_S = 1.0
"""A store that gave no answer is asked nothing for so long: a request has four questions, and would wait for each."""
QUESTIONS_MAX = 50
"""Questions under way at once: Redis's client has a hundred connections, and fails beyond. Others wait in line."""
LINE_WAIT_S = 5.0
"""Of a burst the last ones wait for their turn, which says nothing of the store; at this length it does."""
BODY_BYTES_PER_TOKEN = 4
"""A token of English text is four letters or so (OpenAI's rule of thumb)."""
IMAGE_TOKENS = 1600
"""Held for each image, whose bytes say nothing: about what models of today make of a large one."""
ANSWER_TOKENS_ASSUMED = 256
"""Held for the answer of a request that does not bound it."""


class Quota:
    """Counts what limited keys do."""

    def __init__(
        self, storage_url: str, tasks: Tasks, registry: CollectorRegistry, places: Places | None = None
    ) -> None:
        """``places`` are those of all processes, if there are several. Raises ValueError for a URL of no use."""
        storage = open_storage(storage_url)
        assert isinstance(storage, SlidingWindowCounterSupport)
        self._storage = storage
        self._requests = MovingWindowRateLimiter(storage)
        self._tokens = SlidingWindowCounterRateLimiter(storage)
        self._permits = Permits()
        self._places = places
        self._is_alone = is_memory(storage_url)
        self._last_at: dict[str, float] = {}
        self._storage_works = True
        self._ask_from = 0.0
        self._asking = asyncio.Semaphore(QUESTIONS_MAX)
        self._tasks = tasks
        self._unchecked = Counter(
            "gateway_limits_unchecked", "Questions that the store of limits did not answer.", registry=registry
        )
        self._limited = at_zero(
            Counter(
                "gateway_limited_requests", "Requests that a limit of their key refused.", ["limit"], registry=registry
            ),
            ("concurrent", "requests", "tokens"),
        )

        inside = Gauge("gateway_limited_requests_open", "Requests of limited keys in progress.", registry=registry)
        inside.set_function(lambda: len(self._permits))

    def __repr__(self) -> str:
        return f"<Quota {self._permits!r}>"

    async def admit(self, key: Key, request: Request) -> Permit:
        """Let a request in; :meth:`end` must follow. Raises :class:`wire.errors.RateLimited` with a true time."""
        tokens = 0 if key.tokens_per_min is None else estimate(request, key.tokens_per_min)
        try:
            permit = self._permits.take(key, tokens)
        except RateLimited:
            self._limited["concurrent"].inc()
            raise
        try:
            await self._take_place(permit)
            # Tokens first: whoever has none left shall not lose a request as well.
            await self._check_tokens(permit)
            await self._count_request(key)
        except BaseException:
            self._leave(permit)
            self._permits.release(permit)
            raise
        return permit

    async def _take_place(self, permit: Permit) -> None:
        most = permit.key.concurrent_max
        if self._places is None or most is None:
            return
        entered = await self._places.enter(permit.key.name, most)
        if entered is False:
            self._limited["concurrent"].inc()
            raise too_many(most)
        permit.has_place = bool(entered)

    def _leave(self, permit: Permit) -> None:
        self._permits.leave(permit)
        if permit.has_place and self._places is not None:
            permit.has_place = False
            self._places.leave(permit.key.name)

    def end(self, permit: Permit, tokens: int) -> None:
        """The request is over and used this many tokens. Its place is free at once."""
        self._leave(permit)
        if permit.key.tokens_per_min is None or not tokens:
            self._permits.release(permit)
        else:
            self._tasks.start(self._count_tokens(permit, tokens), "count tokens")

    async def aclose(self) -> None:
        """Let go of the store."""
        await close_storage(self._storage)

    async def headers(self, key: Key) -> Headers:
        """``x-ratelimit-…`` as things stand. A reset is when all is free again; nothing where the store is away."""
        headers: Headers = []
        if key.requests_per_min is not None:
            item = RateLimitItemPerMinute(key.requests_per_min)
            if (
                stats := await self._ask(partial(self._requests.get_window_stats, item, "requests", key.name))
            ) is not None:
                remaining = max(0, stats.remaining)
                reset_s = self._last_leaves_s(key) if remaining < key.requests_per_min else 0.0
                headers += _headers(b"requests", key.requests_per_min, remaining, reset_s)
        if key.tokens_per_min is not None and (window := await self._token_window(key)) is not None:
            held = self._permits.held(key.name)
            remaining = max(0, key.tokens_per_min - window.used - held)
            headers += _headers(b"tokens", key.tokens_per_min, remaining, window.reset_s(held))
        return headers

    async def _check_tokens(self, permit: Permit) -> None:
        limit = permit.key.tokens_per_min
        if limit is None or (window := await self._token_window(permit.key)) is None:
            return
        held = self._permits.held_before(permit)
        if window.used + held > limit:
            self._limited["tokens"].inc()
            room = limit - held
            wait_ms = _ms(window.wait_s(room)) if room >= 0 else RETRY_MS
            raise RateLimited(
                f"This API key may use {limit} tokens per minute, and this request may need more than are left.",
                retry_after_ms=max(1, wait_ms),
            )

    async def _count_request(self, key: Key) -> None:
        limit = key.requests_per_min
        if limit is None:
            return
        item = RateLimitItemPerMinute(limit)
        if await self._ask(partial(self._requests.hit, item, "requests", key.name), counts=True) is not False:
            self._last_at.pop(key.name, None)
            self._last_at[key.name] = now = time.monotonic()
            while self._last_at[first := next(iter(self._last_at))] < now - WINDOW_S:
                del self._last_at[first]  # keys come and go
            return
        self._limited["requests"].inc()
        stats = await self._ask(partial(self._requests.get_window_stats, item, "requests", key.name))
        # The one that was in the way may have left the window meanwhile, and the time would be the next one's.
        wait_ms = RETRY_MS if stats is None or stats.remaining > 0 else _ms(stats.reset_time - time.time())
        if wait_ms > 2 * _ms(WINDOW_S):
            # The clock was set back since they were counted, and they would count until it is where it was.
            await self._ask(partial(self._requests.clear, item, "requests", key.name))
            wait_ms = RETRY_MS
        raise RateLimited(f"This API key may send {limit} requests per minute.", retry_after_ms=max(1, wait_ms))

    async def _count_tokens(self, permit: Permit, tokens: int) -> None:
        limit = permit.key.tokens_per_min
        assert limit is not None
        item, name = RateLimitItemPerMinute(limit), permit.key.name
        try:
            if await self._ask(partial(self._tokens.hit, item, "tokens", name, cost=tokens), counts=True) is False:
                # What goes beyond the limit is not counted: with the window full there is nothing more to forbid.
                window = await self._token_window(permit.key)
                if window is not None and window.used < limit:
                    await self._ask(partial(self._tokens.hit, item, "tokens", name, cost=limit - window.used))
        finally:
            self._permits.release(permit)

    async def _token_window(self, key: Key) -> TokenWindow | None:
        assert key.tokens_per_min is not None
        name = RateLimitItemPerMinute(key.tokens_per_min).key_for("tokens", key.name)
        found = await self._ask(partial(self._storage.get_sliding_window, name, round(WINDOW_S)))
        return None if found is None else TokenWindow(*found)

    def _last_leaves_s(self, key: Key) -> float:
        """When the newest request leaves the window. One that another gateway may have let in is taken to be new."""
        last = self._last_at.get(key.name)
        return max(0.0, last + WINDOW_S - time.monotonic()) if self._is_alone and last is not None else WINDOW_S

    async def _ask(self, question: Callable[[], Awaitable[T]], *, counts: bool = False) -> T | None:
        """The answer of the store; None where it has none. A store that is away stops nobody: it is only a limit.

        ``counts``: it is true once something more is counted. A store that is full, or only a copy, refuses that, and
        answers other questions all the same.
        """
        try:
            async with asyncio.timeout(LINE_WAIT_S), self._asking:
                if (now := time.monotonic()) < self._ask_from:
                    self._unchecked.inc()
                    return None
                if self._ask_from:
                    self._ask_from = now + STORAGE_WAIT_S  # whether it is back, one asks for all
                async with asyncio.timeout(STORAGE_WAIT_S):
                    answer = await question()
        except Exception as error:
            # Each store has exceptions of its own.
            self._unchecked.inc()
            self._ask_from = time.monotonic() + AWAY_S
            if self._storage_works:
                log.error("Limits cannot be counted, so they do not hold.", error=error, action="limits_unavailable")
            self._storage_works = False
            return None
        self._ask_from = 0.0
        if counts and answer and not self._storage_works:
            self._storage_works = True
            log.info("Limits are counted again.", action="limits_recovered")
        return answer


def estimate(request: Request, limit: int) -> int:
    """Tokens to hold for a request. Never more than the limit: with all of it free, anything may be tried."""
    prompt = -(-text_bytes(request.body) // BODY_BYTES_PER_TOKEN) + IMAGE_TOKENS * (request.images or 0)
    if request.max_tokens is not None:
        return min(limit, prompt + request.max_tokens * request.generated)
    answer = 0 if request.endpoint == "embeddings" else ANSWER_TOKENS_ASSUMED * request.generated
    # A guess alone shall not make a request wait for the whole of a small limit.
    return min(limit, max(prompt, min(prompt + answer, limit // 4)))


def _headers(kind: bytes, limit: int, remaining: int, reset_s: float) -> Headers:
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % remaining),
        (b"x-ratelimit-reset-" + kind, go_duration(_ms(reset_s)).encode()),
    ]


def _ms(seconds: float) -> int:
    """Rounded up: after this time it is so."""
    return math.ceil(seconds * 1000)
