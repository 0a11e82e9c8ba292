"""Rollups but for that by models have only the days that are over, and the sums by day an index of their days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Leave the rollup by models, which has every day. Management makes the others when it starts."""
    for name in ("usage", "money"):
        op.execute(f"DELETE FROM {name}_rollup WHERE rollup != 'model'")
        op.create_index(op.f(f"ix_{name}_daily_day"), f"{name}_daily", ["day"])
    op.add_column("ledger_state", sa.Column("rolled_up_until", sa.Date(), nullable=False, server_default="0001-01-01"))
