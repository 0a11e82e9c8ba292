"""The keys and budgets of the database, as this gateway knows them: read again within a second of every change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from sqlalchemy.exc import DBAPIError

from gateway.keys.key import Key
from process.identity import now_ms
from process.logging import Log
from store import budgets, database
from store import keys as table
from store.database import reading
from wire.errors import KeysUnavailable

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from sqlalchemy.ext.asyncio import AsyncConnection

    from store.budgets import Budget
    from store.keys import StoredKey

log = Log("gateway")

POLL_S = 1.0
"""So that a revocation holds within two seconds, a slow answer of the database included."""
READ_WAIT_S = 5.0
READ_ALL_S = 60.0
"""All is read this often even without a change, should someone have written without counting the version up."""


class Keyring:
    """A cache that is asked for every request and never waits. :meth:`run` keeps it."""

    def __init__(self, url: str, registry: CollectorRegistry, *, stale_s: float, poll_s: float = POLL_S) -> None:
        """Raises :class:`store.database.UnusableDatabase`."""
        self.tried = asyncio.Event()
        """Set once the database was asked, whatever came of it."""
        self.engine = database.open(url)
        self.budgets: dict[tuple[str, str], list[Budget]] = {}
        """By scope and subject."""
        self._stale_s = stale_s
        self._poll_s = poll_s
        self._by_digest: dict[str, Key] = {}
        self._version: int | None = None
        self._were_any = False
        self._read_at = self._fresh_at = float("-inf")
        self._has_tables = False
        self._works = True
        self._reachable = Gauge(
            "gateway_keys_database_up", "Whether the database of keys answered when last asked.", registry=registry
        )
        self._failures = Counter(
            "gateway_keys_reads_failed", "Questions that the database of keys did not answer.", registry=registry
        )
        usable = Gauge("gateway_keys", "Keys of the database that are good.", registry=registry)
        usable.set_function(lambda: len(self._by_digest))

    def __repr__(self) -> str:
        return f"<Keyring {len(self._by_digest)}>"

    @property
    def is_known(self) -> bool:
        """Whether the database was heard, and not too long ago."""
        return asyncio.get_running_loop().time() - self._fresh_at <= self._stale_s

    @property
    def is_empty(self) -> bool:
        """Whether there is no key and never was one. Once there was, a database that was emptied opens no door."""
        return self.is_known and not self._were_any

    def find(self, digest: str) -> Key | None:
        """The good key with this digest. Raises :class:`wire.errors.KeysUnavailable`."""
        if not self.is_known:
            raise KeysUnavailable(retry_after_ms=1000)
        key = self._by_digest.get(digest)
        if key is not None and key.expires_ms is not None and key.expires_ms <= now_ms():
            return None
        return key

    async def run(self) -> None:
        """Ask the database for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._poll_s)

    async def refresh(self) -> None:
        """Ask it once. A database that is away leaves the keys as they are, and is told of once."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(READ_WAIT_S), reading(self.engine) as connection:
                await self._read(connection, began)
        except Exception as error:
            # Whatever it is, the next second may be better; meanwhile old keys grow too old by themselves.
            self._failed(error)
        else:
            # What was read is as fresh as the moment before it was asked for.
            self._fresh_at = began
            self._recovered()
        self.tried.set()

    async def aclose(self) -> None:
        """Let go of the database."""
        await self.engine.dispose()

    async def _read(self, connection: AsyncConnection, now: float) -> None:
        self._has_tables = self._has_tables or await table.has_tables(connection)
        if not self._has_tables:
            # Nobody made a key yet, or all of them are gone.
            self._by_digest, self._version, self.budgets = {}, None, {}
            return
        version = await table.version(connection)
        if version == self._version and now - self._read_at < READ_ALL_S:
            return
        self._were_any = self._were_any or await table.count(connection) > 0
        keys = {stored.digest: _key(stored) for stored in await table.usable(connection, now_ms())}
        self._by_digest, self.budgets = keys, await _budgets(connection)
        if self._version is not None and version != self._version:
            log.info("The keys have changed.", action="keys_read", keys=len(self._by_digest))
        self._version, self._read_at = version, now

    def _failed(self, error: Exception) -> None:
        self._failures.inc()
        self._reachable.set(0)
        self._has_tables = False
        if self._works:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            log.warning(
                "The database of keys cannot be read. Known keys stay good for a while.",
                action="keys_unavailable",
                reason=type(cause).__name__,
                stale_s=self._stale_s,
            )
        self._works = False

    def _recovered(self) -> None:
        self._reachable.set(1)
        if not self._works:
            log.info("The database of keys can be read again.", action="keys_recovered")
        self._works = True


async def _budgets(connection: AsyncConnection) -> dict[tuple[str, str], list[Budget]]:
    found: dict[tuple[str, str], list[Budget]] = {}
    if await budgets.has_tables(connection):
        for budget in await budgets.listed(connection):
            found.setdefault(budget.id[:2], []).append(budget)
    return found


def _key(stored: StoredKey) -> Key:
    limits = stored.limits
    return Key(
        name=stored.name,
        models=None if limits.models is None else frozenset(limits.models),
        requests_per_min=limits.requests_per_min,
        tokens_per_min=limits.tokens_per_min,
        concurrent_max=limits.concurrent_max,
        expires_ms=stored.expires_ms,
        tags=tuple(stored.tags.items()),
    )
