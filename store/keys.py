"""Clients' keys in the database: people write them through ``fleet keys``, gateways read them.

A secret is not stored, only its SHA-256. That is enough, without salt or stretching, because a secret has 256 random
bits: nobody can try them out. A name is never given twice, so that a line of the ledger means one client for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, inspect, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from store.tables import API_KEYS, API_KEYS_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import RowMapping
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

_COLUMNS = API_KEYS.c


class NameTaken(Exception):
    """There is, or was, a key of this name."""


class NoSuchKey(Exception):
    """There is no key of this name that could still be used."""


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """What a key may do. None means: without a limit."""

    models: tuple[str, ...] | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    concurrent_max: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredKey:
    """One secret of a key, without the secret. Times are Unix milliseconds."""

    name: str
    generation: int
    """1 for the first secret of this name; each rotation adds one."""
    digest: str
    prefix: str
    """The beginning of the secret, by which people recognize it."""
    limits: KeyLimits
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """What its requests are counted under."""

    def state(self, now_ms: int) -> str:
        """``active``, ``revoked`` or ``expired``."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and self.expires_ms <= now_ms else "active"


@dataclass(frozen=True)
class NewSecret:
    """What is stored of a secret that was just made."""

    digest: str
    prefix: str


async def has_tables(connection: AsyncConnection) -> bool:
    """Whether the schema knows keys. Management and ``fleet keys`` bring it up to date; a gateway does not."""
    return await connection.run_sync(_has_tables)


async def version(connection: AsyncConnection) -> int:
    """A number that is another one after every change: cheap to ask for."""
    found: int | None = await connection.scalar(select(API_KEYS_VERSION.c.version))
    return found or 0


async def usable(connection: AsyncConnection, now_ms: int) -> list[StoredKey]:
    """The keys that are neither revoked nor expired."""
    statement = select(API_KEYS).where(_good_at(now_ms))
    return [_stored(row) for row in (await connection.execute(statement)).mappings()]


async def count(connection: AsyncConnection) -> int:
    """How many there ever were."""
    return await connection.scalar(select(func.count()).select_from(API_KEYS)) or 0


async def listed(connection: AsyncConnection) -> list[StoredKey]:
    """Every one there ever was, by name, the newest secret of a name first."""
    statement = select(API_KEYS).order_by(_COLUMNS.name, _COLUMNS.generation.desc())
    return [_stored(row) for row in (await connection.execute(statement)).mappings()]


async def page(connection: AsyncConnection, after: str | None, limit: int) -> list[StoredKey]:
    """The newest secret of each name behind ``after``, by name; ``limit`` at most."""
    newest = select(_COLUMNS.name, func.max(_COLUMNS.generation)).group_by(_COLUMNS.name).order_by(_COLUMNS.name)
    if after is not None:
        newest = newest.where(_COLUMNS.name > after)
    statement = select(API_KEYS).where(tuple_(_COLUMNS.name, _COLUMNS.generation).in_(newest.limit(limit)))
    return [_stored(row) for row in (await connection.execute(statement.order_by(_COLUMNS.name))).mappings()]


async def create(
    connection: AsyncConnection,
    name: str,
    secret: NewSecret,
    limits: KeyLimits,
    now_ms: int,
    expires_ms: int | None,
    tags: Mapping[str, str] | None = None,
) -> StoredKey:
    """Add a key. Raises :class:`NameTaken`; the transaction is then of no further use."""
    await _changed(connection)
    key = StoredKey(
        name=name,
        generation=1,
        digest=secret.digest,
        prefix=secret.prefix,
        limits=limits,
        created_ms=now_ms,
        expires_ms=expires_ms,
        tags=tags or {},
    )
    try:
        await connection.execute(insert(API_KEYS), [_row(key)])
    except IntegrityError:
        raise NameTaken(name) from None
    return key


async def revoke(connection: AsyncConnection, name: str, now_ms: int) -> int:
    """End every secret of this name, and return how many were good until now. Raises :class:`NoSuchKey`."""
    await _changed(connection)
    statement = update(API_KEYS).where(_COLUMNS.name == name, _good_at(now_ms)).values(revoked_ms=now_ms)
    ended = (await connection.execute(statement)).rowcount
    if not ended:
        raise NoSuchKey(name)
    return ended


async def rotate(
    connection: AsyncConnection, name: str, secret: NewSecret, now_ms: int, old_until_ms: int
) -> StoredKey:
    """Add a secret with the limits, tags and expiry of the newest one; the others are good until ``old_until_ms``.

    None of them becomes good for longer than it was. Raises :class:`NoSuchKey` where none is good now.
    """
    await _changed(connection)
    statement = select(API_KEYS).where(_COLUMNS.name == name).order_by(_COLUMNS.generation.desc()).limit(1)
    newest = (await connection.execute(statement)).mappings().first()
    if newest is None or _stored(newest).state(now_ms) != "active":
        raise NoSuchKey(name)
    await connection.execute(
        update(API_KEYS)
        .where(_COLUMNS.name == name, _good_at(now_ms))
        .where(or_(_COLUMNS.expires_ms.is_(None), _COLUMNS.expires_ms > old_until_ms))
        .values(expires_ms=old_until_ms)
    )
    row = dict(newest) | {
        "generation": newest["generation"] + 1,
        "digest": secret.digest,
        "prefix": secret.prefix,
        "created_ms": now_ms,
    }
    await connection.execute(insert(API_KEYS), [row])
    return _stored(row)


async def _changed(connection: AsyncConnection) -> None:
    # First in its transaction: the row's lock puts writers one behind the other, so that whoever reads a version
    # sees all that was changed up to it.
    await connection.execute(update(API_KEYS_VERSION).values(version=API_KEYS_VERSION.c.version + 1))


def _has_tables(connection: Connection) -> bool:
    return inspect(connection).has_table(API_KEYS_VERSION.name)


def _good_at(now_ms: int) -> Any:
    return _COLUMNS.revoked_ms.is_(None) & or_(_COLUMNS.expires_ms.is_(None), _COLUMNS.expires_ms > now_ms)


def _row(key: StoredKey) -> dict[str, object]:
    limits = key.limits
    return {
        "name": key.name,
        "generation": key.generation,
        "digest": key.digest,
        "prefix": key.prefix,
        "models": None if limits.models is None else json.dumps(limits.models),
        "requests_per_min": limits.requests_per_min,
        "tokens_per_min": limits.tokens_per_min,
        "concurrent_max": limits.concurrent_max,
        "tags": json.dumps(dict(key.tags)) if key.tags else None,
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
    }


def _stored(row: RowMapping | dict[str, Any]) -> StoredKey:
    return StoredKey(
        name=row["name"],
        generation=row["generation"],
        digest=row["digest"],
        prefix=row["prefix"],
        limits=KeyLimits(
            models=None if row["models"] is None else tuple(json.loads(row["models"])),
            requests_per_min=row["requests_per_min"],
            tokens_per_min=row["tokens_per_min"],
            concurrent_max=row["concurrent_max"],
        ),
        created_ms=row["created_ms"],
        expires_ms=row["expires_ms"],
        revoked_ms=row["revoked_ms"],
        tags=json.loads(row["tags"]) if row["tags"] else {},
    )
