"""Money, tags, prompts and retention; lists in the order of time; ends by rank instead of by arrival."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_USAGE = (
    "requests",
    "estimated_requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "body_bytes",
    "answer_bytes",
)

# As management.ledger.facts ranks ends: a change there needs a rebuild, not a change here.
_FILL_ENDS = """
INSERT INTO ends (request_id, position, rank, event_id, status, time_ms, model, key_id, node)
SELECT request_id, position, rank, event_id, status, time_ms, model, key_id, node
FROM (
    SELECT ranked.*,
           row_number() OVER (PARTITION BY request_id ORDER BY rank, time_ms, event_id) AS place
    FROM (
        SELECT events.request_id, events.position, events.event_id, events.time_ms, events.model, events.key_id,
               events.node,
               CASE events.type
                   WHEN 'io.workernode.request.billed' THEN 0
                   WHEN 'io.workernode.request.dead' THEN 1
                   WHEN 'io.workernode.request.failed' THEN 2
                   WHEN 'io.workernode.request.expired' THEN 3
                   WHEN 'io.workernode.request.cancelled' THEN 4
                   ELSE 5
               END AS rank,
               CASE events.type
                   WHEN 'io.workernode.request.billed'
                       THEN CASE WHEN charges.status = 'cancelled' THEN 'cancelled' ELSE 'answered' END
                   ELSE substr(events.type, length('io.workernode.request.') + 1)
               END AS status
        FROM events LEFT JOIN charges ON charges.position = events.position
        WHERE events.request_id IS NOT NULL AND events.type IN (
            'io.workernode.request.billed', 'io.workernode.request.failed', 'io.workernode.request.cancelled',
            'io.workernode.request.expired', 'io.workernode.request.dead', 'io.workernode.request.abandoned'
        )
    ) AS ranked
) AS placed
WHERE place = 1
"""


def upgrade() -> None:
    """Change what is there, then add what is new."""
    _charges()
    _ends()
    _usage()
    for column in ("model", "node"):
        op.create_index(op.f(f"ix_events_{column}_position"), "events", [column, "position"])
    op.create_index(op.f("ix_events_time_ms"), "events", ["time_ms"])
    op.add_column("api_keys", sa.Column("tags", sa.Text(), nullable=True))
    state = op.create_table(
        "ledger_state",
        sa.Column("id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("time_zone", sa.String(), nullable=True),
        sa.Column("horizon_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_state")),
    )
    op.bulk_insert(state, [{"id": 1, "time_zone": None, "horizon_ms": 0}])
    # Until now all days were those of UTC.
    op.execute("UPDATE ledger_state SET time_zone = 'UTC' WHERE EXISTS (SELECT 1 FROM usage_daily)")
    op.create_table(
        "prompts",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_prompts")),
    )
    op.create_index(op.f("ix_prompts_time_ms"), "prompts", ["time_ms"])
    _money()
    _budgets()


def _by_time(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_time_ms_position"), table, ["time_ms", "position"])
    for column in columns:
        op.create_index(op.f(f"ix_{table}_{column}_time_ms_position"), table, [column, "time_ms", "position"])


def _charges() -> None:
    op.drop_index(op.f("ix_charges_time_ms"), "charges")
    for column in ("key_id", "model", "node"):
        op.drop_index(op.f(f"ix_charges_{column}_position"), "charges")
    with op.batch_alter_table("charges") as charges:
        charges.drop_constraint(op.f("fk_charges_position"), type_="foreignkey")
        charges.add_column(sa.Column("images", sa.BigInteger(), nullable=True))
        charges.add_column(sa.Column("tags", sa.Text(), nullable=True))
    _by_time("charges", "key_id", "model", "node")


def _ends() -> None:
    op.drop_table("ends")
    op.create_table(
        "ends",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("position", _POSITION, nullable=False),
        sa.Column("rank", sa.SmallInteger(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("node", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_ends")),
        sa.UniqueConstraint("position", name=op.f("uq_ends_position")),
    )
    op.execute(_FILL_ENDS)
    _by_time("ends", "status", "key_id", "model", "node")


def _usage() -> None:
    op.rename_table("usage_daily", "usage_daily_untagged")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX pk_usage_daily RENAME TO pk_usage_daily_untagged")
    op.create_table(
        "usage_daily",
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _USAGE),
        sa.PrimaryKeyConstraint("tag", "day", "model", "key_id", "node", name=op.f("pk_usage_daily")),
    )
    columns = ", ".join(("day", "model", "key_id", "node", *_USAGE))
    op.execute(f"INSERT INTO usage_daily (tag, {columns}) SELECT '', {columns} FROM usage_daily_untagged")
    op.drop_table("usage_daily_untagged")


def _money() -> None:
    op.create_table(
        "price_lists",
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_price_lists")),
    )
    op.create_table(
        "priced",
        sa.Column("position", _POSITION, autoincrement=False, nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("price_version", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("cost_currency", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_priced")),
    )
    op.create_index(op.f("ix_priced_time_ms"), "priced", ["time_ms"])
    keys = ("tag", "side", "day", "model", "key_id", "node", "provider", "currency")
    op.create_table(
        "money_daily",
        *(sa.Column(name, sa.Date() if name == "day" else sa.String(), nullable=False) for name in keys),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*keys, name=op.f("pk_money_daily")),
    )
    op.create_table(
        "spent_daily",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "subject", "currency", "day", name=op.f("pk_spent_daily")),
    )


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("amount_max", sa.BigInteger(), nullable=False),
        sa.Column("warn_percent", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "subject", "period", name=op.f("pk_budgets")),
    )
    op.create_table(
        "reservations",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "scope", "subject", "period", name=op.f("pk_reservations")),
    )
    op.create_index(op.f("ix_reservations_scope_subject_period"), "reservations", ["scope", "subject", "period"])
