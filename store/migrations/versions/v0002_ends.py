"""One end per request: a projection, filled here from the events that are there already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# As management.ledger.facts tells ends: a change there needs a rebuild, not a change here.
_FILL = """
INSERT INTO ends (request_id, position, status, time_ms, model, key_id, node)
SELECT events.request_id, events.position,
       CASE events.type
           WHEN 'io.workernode.request.billed'
               THEN CASE WHEN charges.status = 'cancelled' THEN 'cancelled' ELSE 'answered' END
           ELSE substr(events.type, length('io.workernode.request.') + 1)
       END,
       events.time_ms, events.model, events.key_id, events.node
FROM events LEFT JOIN charges ON charges.position = events.position
WHERE events.position IN (
    SELECT min(position) FROM events
    WHERE request_id IS NOT NULL AND type IN (
        'io.workernode.request.billed', 'io.workernode.request.failed', 'io.workernode.request.cancelled',
        'io.workernode.request.expired', 'io.workernode.request.dead', 'io.workernode.request.abandoned'
    )
    GROUP BY request_id
)
"""


def upgrade() -> None:
    """Make the table and fill it."""
    op.create_table(
        "ends",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("node", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["position"], ["events.position"], name=op.f("fk_ends_position")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_ends")),
        sa.UniqueConstraint("position", name=op.f("uq_ends_position")),
    )
    op.create_index(op.f("ix_ends_status_position"), "ends", ["status", "position"], unique=False)
    op.create_index(op.f("ix_ends_key_id_position"), "ends", ["key_id", "position"], unique=False)
    op.create_index(op.f("ix_ends_model_position"), "ends", ["model", "position"], unique=False)
    op.execute(_FILL)
