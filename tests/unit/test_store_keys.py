"""Keys in the database: what turning one over keeps, what ends with it, and who hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from store import database
from store import keys as table
from store.database import reading, writing
from store.keys import KeyLimits, NameTaken, NewSecret, NoSuchKey, StoredKey
from store.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

NOW_MS = 1_000_000
FREE = KeyLimits()
LIMITS = KeyLimits(models=("a", "b"), requests_per_min=1, tokens_per_min=2, concurrent_max=3)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.open(database_url)
    await upgrade(engine)
    yield engine
    await engine.dispose()


class Book:
    """The table, one transaction for each change."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def create(
        self,
        name: str,
        expires_ms: int | None = None,
        limits: KeyLimits = FREE,
        tags: Mapping[str, str] | None = None,
    ) -> StoredKey:
        async with writing(self.engine) as connection:
            secret = NewSecret(f"digest-{name}-1", f"sk-{name}-1")
            return await table.create(connection, name, secret, limits, NOW_MS, expires_ms, tags)

    async def rotate(self, name: str, number: int, now_ms: int, old_until_ms: int) -> StoredKey:
        async with writing(self.engine) as connection:
            secret = NewSecret(f"digest-{name}-{number}", f"sk-{name}-{number}")
            return await table.rotate(connection, name, secret, now_ms, old_until_ms)

    async def revoke(self, name: str, now_ms: int) -> int:
        async with writing(self.engine) as connection:
            return await table.revoke(connection, name, now_ms)

    async def good(self, now_ms: int) -> list[str]:
        """The secrets that are good, by their beginnings."""
        async with reading(self.engine) as connection:
            return sorted(key.prefix for key in await table.usable(connection, now_ms))

    async def page(self, after: str | None, limit: int) -> list[str]:
        async with reading(self.engine) as connection:
            return [key.prefix for key in await table.page(connection, after, limit)]

    async def version(self) -> int:
        async with reading(self.engine) as connection:
            return await table.version(connection)


@pytest.fixture
def book(engine: AsyncEngine) -> Book:
    return Book(engine)


async def test_a_key_that_is_rotated_keeps_all_but_its_secret(book: Book) -> None:
    made = await book.create("app", NOW_MS + 100, LIMITS, {"team": "search"})
    turned = await book.rotate("app", 2, NOW_MS + 10, NOW_MS + 20)
    assert turned == StoredKey(
        name="app",
        generation=2,
        digest="digest-app-2",
        prefix="sk-app-2",
        limits=LIMITS,
        created_ms=NOW_MS + 10,
        expires_ms=NOW_MS + 100,
        tags={"team": "search"},
    )
    async with reading(book.engine) as connection:
        newest, oldest = await table.listed(connection)
    assert newest == turned
    assert (oldest.prefix, oldest.limits, oldest.tags) == (made.prefix, made.limits, made.tags)
    assert oldest.expires_ms == NOW_MS + 20


async def test_the_old_secrets_of_a_key_are_good_for_their_grace_and_none_for_longer_than_it_was(book: Book) -> None:
    await book.create("app")
    await book.rotate("app", 2, NOW_MS, NOW_MS + 50)
    await book.rotate("app", 3, NOW_MS, NOW_MS + 100)
    assert await book.good(NOW_MS + 49) == ["sk-app-1", "sk-app-2", "sk-app-3"]
    assert await book.good(NOW_MS + 50) == ["sk-app-2", "sk-app-3"]
    assert await book.good(NOW_MS + 100) == ["sk-app-3"]
    await book.rotate("app", 4, NOW_MS + 60, NOW_MS + 60)
    assert await book.good(NOW_MS + 60) == ["sk-app-4"]


async def test_a_key_that_is_over_is_neither_rotated_nor_revoked(book: Book) -> None:
    await book.create("ended", NOW_MS + 10)
    await book.create("revoked")
    await book.create("other")
    await book.rotate("revoked", 2, NOW_MS, NOW_MS + 50)
    assert await book.revoke("revoked", NOW_MS + 5) == 2
    for name, now_ms in (("ended", NOW_MS + 10), ("revoked", NOW_MS + 6), ("nobody", NOW_MS)):
        with pytest.raises(NoSuchKey):
            await book.rotate(name, 9, now_ms, now_ms)
        with pytest.raises(NoSuchKey):
            await book.revoke(name, now_ms)
    for name in ("ended", "revoked", "other"):
        with pytest.raises(NameTaken):
            await book.create(name)
    assert await book.good(NOW_MS + 10) == ["sk-other-1"]


async def test_every_change_has_a_version_of_its_own(book: Book) -> None:
    versions = [await book.version()]
    await book.create("app")
    versions.append(await book.version())
    await book.rotate("app", 2, NOW_MS, NOW_MS)
    versions.append(await book.version())
    await book.revoke("app", NOW_MS)
    versions.append(await book.version())
    assert versions == sorted(set(versions))


async def test_a_page_has_the_newest_secret_of_each_name(book: Book) -> None:
    for name in ("b", "a", "c"):
        await book.create(name)
    await book.rotate("b", 2, NOW_MS, NOW_MS)
    assert await book.page(None, 2) == ["sk-a-1", "sk-b-2"]
    assert await book.page("b", 2) == ["sk-c-1"]


def test_a_key_is_over_at_its_last_moment_and_revoked_before_all() -> None:
    def key(expires_ms: int | None = None, revoked_ms: int | None = None) -> StoredKey:
        return StoredKey(
            name="app",
            generation=1,
            digest="d",
            prefix="p",
            limits=KeyLimits(),
            created_ms=1,
            expires_ms=expires_ms,
            revoked_ms=revoked_ms,
        )

    assert [key(10).state(now_ms) for now_ms in (9, 10, 11)] == ["active", "expired", "expired"]
    assert [each.state(11) for each in (key(), key(None, 5), key(10, 5))] == ["active", "revoked", "revoked"]
