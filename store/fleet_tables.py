"""The tables of the fleet: what operators want and did, what went wrong, and who was told.

``errors_daily``, ``errors_rollup`` and ``node_errors`` are projections of the events; the others are management's own.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, Index, Integer, String, Table, Text

from store.rollups import rollup_of
from store.tables import METADATA

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

ORDERS = Table(
    "orders",
    METADATA,
    # What shall hold: of a `node`, by its incarnation, or of a `model`. The last one given counts.
    Column("scope", String, primary_key=True),
    Column("subject", String, primary_key=True),
    # `pause`, `resume` or `drain`.
    Column("order", String, nullable=False),
    Column("by", String, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("reason", Text),
)

ACTIONS = Table(
    "actions",
    METADATA,
    # Who did what, and what came of it.
    Column("action_id", _NUMBER, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("action", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("reason", Text),
    # `running`, `done` or `failed`.
    Column("state", String, nullable=False),
    Column("outcome", Text),
    Column("done_ms", BigInteger),
    Index(None, "at_ms"),
    Index(None, "by", "action_id"),
    Index(None, "action", "action_id"),
    Index(None, "subject", "action_id"),
    sqlite_autoincrement=True,
)

ALERTS = Table(
    "alerts",
    METADATA,
    Column("alert_id", _NUMBER, primary_key=True),
    Column("code", String, nullable=False),
    Column("model", String, nullable=False),
    # `''` for nodes without one.
    Column("provider", String, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("nodes", BigInteger, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("cleared_ms", BigInteger),
    # What of it was told last: NULL for nothing yet, `opened` or `cleared`; how that went; and who tells it until when.
    Column("told", String),
    Column("telling", String, nullable=False),
    Column("claimed_until_ms", BigInteger, nullable=False),
    # Those that are open, or over for long, and those of which something may have to be told, among all that were.
    Index(None, "cleared_ms", "alert_id"),
    Index(None, "told", "alert_id"),
    sqlite_autoincrement=True,
)
# Two managements that hear of the same trouble open one alert.
Index(
    "uq_alerts_open",
    ALERTS.c.code,
    ALERTS.c.model,
    ALERTS.c.provider,
    unique=True,
    sqlite_where=ALERTS.c.cleared_ms.is_(None),
    postgresql_where=ALERTS.c.cleared_ms.is_(None),
)

ERRORS_DAILY = Table(
    "errors_daily",
    METADATA,
    Column("day", Date, primary_key=True),
    Column("fingerprint", String, primary_key=True),
    Column("model", String, primary_key=True),
    # `''` for none, as for what nodes tell of themselves.
    Column("key_id", String, primary_key=True),
    # These three make the fingerprint.
    Column("scope", String, nullable=False),
    Column("code", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    # The last one: its time, its event, which decides between two of one time, and what it told.
    Column("last_ms", BigInteger, nullable=False),
    Column("last_event_id", String, nullable=False),
    Column("last_request_id", String),
    Column("last_message", Text),
)
ERRORS_ROLLUP = rollup_of(ERRORS_DAILY, "errors_rollup")

NODE_ERRORS = Table(
    "node_errors",
    METADATA,
    # The last one of each node.
    Column("node", String, primary_key=True),
    Column("time_ms", BigInteger, nullable=False),
    Column("event_id", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("code", String, nullable=False),
    Column("request_id", String),
    Column("message", Text),
    Index(None, "time_ms"),
)
