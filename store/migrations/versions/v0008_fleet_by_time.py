"""What management knows of the fleet, by its time: to show the latest of very many rows, and to delete the oldest."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

_INDEXES = (
    ("quarantine", "last_seen_ms"),
    ("nodes", "model", "last_ms"),
    ("alerts", "cleared_ms", "alert_id"),
    ("alerts", "told", "alert_id"),
    ("actions", "at_ms"),
)


def upgrade() -> None:
    """Add the indexes."""
    for table, *columns in _INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
