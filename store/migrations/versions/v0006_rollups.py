"""Rollups of the sums by day, and dead letters of a model by an index of their own."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_USAGE_KEYS = ("tag", "day", "model", "key_id", "node")
_USAGE_SUMS = (
    "requests",
    "estimated_requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "body_bytes",
    "answer_bytes",
)
_MONEY_KEYS = ("tag", "side", "day", "model", "key_id", "node", "provider", "currency")
_MONEY_SUMS = ("requests", "tokens", "amount")
_LEFT_OUT = {"model": ("key_id",), "key": ("model", "node", "provider")}
_FINGERPRINT = ("scope", "code", "provider")
_LAST = ("last_ms", "last_event_id", "last_request_id", "last_message")


def upgrade() -> None:
    """Add them, and fill them from the sums that are there."""
    for name, keys, sums in (("usage", _USAGE_KEYS, _USAGE_SUMS), ("money", _MONEY_KEYS, _MONEY_SUMS)):
        _create(name, keys, [sa.Column(each, sa.BigInteger(), nullable=False) for each in sums])
        for rollup, left_out in _LEFT_OUT.items():
            kept = [key for key in keys if key not in left_out]
            op.execute(
                f"INSERT INTO {name}_rollup (rollup, {', '.join((*keys, *sums))}) "
                f"SELECT '{rollup}', {_shown(keys, left_out)}, {', '.join(f'sum({each})' for each in sums)} "
                f"FROM {name}_daily GROUP BY {', '.join(kept)}"
            )
    _errors()
    is_dead = sa.text("status = 'dead'")
    op.create_index(
        "ix_ends_dead", "ends", ["model", "time_ms", "position"], sqlite_where=is_dead, postgresql_where=is_dead
    )


def _errors() -> None:
    keys = ("day", "fingerprint", "model", "key_id")
    columns: list[sa.Column[Any]] = [sa.Column(name, sa.String(), nullable=False) for name in _FINGERPRINT]
    columns += [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("count", "first_ms", "last_ms")]
    columns.append(sa.Column("last_event_id", sa.String(), nullable=False))
    columns.append(sa.Column("last_request_id", sa.String(), nullable=True))
    columns.append(sa.Column("last_message", sa.Text(), nullable=True))
    _create("errors", keys, columns)
    by_bytes = '"C"' if op.get_bind().dialect.name == "postgresql" else "BINARY"
    told = ", ".join((*_FINGERPRINT, "count", "first_ms", *_LAST))
    for rollup, left_out in (("model", ("key_id",)), ("key", ("model",))):
        group = ", ".join(key for key in keys if key not in left_out)
        op.execute(
            f"INSERT INTO errors_rollup (rollup, {', '.join(keys)}, {told}) "
            f"SELECT '{rollup}', {_shown(keys, left_out)}, {', '.join(_FINGERPRINT)}, total, earliest, "
            f"{', '.join(_LAST)} FROM (SELECT errors_daily.*, sum(count) OVER (PARTITION BY {group}) AS total, "
            f"min(first_ms) OVER (PARTITION BY {group}) AS earliest, row_number() OVER (PARTITION BY {group} "
            f"ORDER BY last_ms DESC, last_event_id COLLATE {by_bytes} DESC) AS place FROM errors_daily) AS ranked "
            "WHERE place = 1"
        )


def _create(name: str, keys: tuple[str, ...], columns: list[sa.Column[Any]]) -> None:
    named = [sa.Column(key, sa.Date() if key == "day" else sa.String(), nullable=False) for key in ("rollup", *keys)]
    op.create_table(
        f"{name}_rollup",
        *named,
        *columns,
        sa.PrimaryKeyConstraint("rollup", *keys, name=op.f(f"pk_{name}_rollup")),
        sqlite_with_rowid=False,
    )


def _shown(keys: tuple[str, ...], left_out: tuple[str, ...]) -> str:
    return ", ".join("''" if key in left_out else key for key in keys)
