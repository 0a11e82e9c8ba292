"""Operators' orders and actions, errors by day, and alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them. Errors of events that are there already come with a rebuild."""
    op.create_table(
        "orders",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("order", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "subject", name=op.f("pk_orders")),
    )
    op.create_table(
        "actions",
        sa.Column("action_id", _NUMBER, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("done_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("action_id", name=op.f("pk_actions")),
        sqlite_autoincrement=True,
    )
    for column in ("by", "action", "subject"):
        op.create_index(op.f(f"ix_actions_{column}_action_id"), "actions", [column, "action_id"])
    _alerts()
    _errors()


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", _NUMBER, nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("nodes", sa.BigInteger(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("cleared_ms", sa.BigInteger(), nullable=True),
        sa.Column("told", sa.String(), nullable=True),
        sa.Column("telling", sa.String(), nullable=False),
        sa.Column("claimed_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        sqlite_autoincrement=True,
    )
    is_open = sa.text("cleared_ms IS NULL")
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["code", "model", "provider"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )


def _errors() -> None:
    op.create_table(
        "errors_daily",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_event_id", sa.String(), nullable=False),
        sa.Column("last_request_id", sa.String(), nullable=True),
        sa.Column("last_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("day", "fingerprint", "model", "key_id", name=op.f("pk_errors_daily")),
    )
    op.create_table(
        "node_errors",
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_node_errors")),
    )
    op.create_index(op.f("ix_node_errors_time_ms"), "node_errors", ["time_ms"])
