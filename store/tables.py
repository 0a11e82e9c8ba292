"""The tables. ``events`` holds facts and only grows; ``charges``, ``ends``, ``usage_daily``, ``usage_rollup`` and
``nodes`` are projections of it, and so are those of :mod:`store.money_tables`.

A projection can be emptied and rebuilt from the events at any time. Times are Unix milliseconds, and absent texts in
a primary key are ``''``, so that both databases compare them alike. Texts have no length here: the wire limits them.
No row refers to an event by a foreign key: events may be deleted before what was made of them.
``api_keys`` stands apart: people write it, by ``fleet keys``, and gateways read it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from store.rollups import rollup_of

# SQLite numbers rows by itself only where the column is exactly INTEGER, which is 64 bits wide there.
_POSITION = BigInteger().with_variant(Integer, "sqlite")

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

EVENTS = Table(
    "events",
    METADATA,
    Column("position", _POSITION, primary_key=True),
    # The one place where a repeated event is noticed. Nothing else removes duplicates.
    Column("event_id", String, nullable=False, unique=True),
    Column("type", String, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("request_id", String),
    Column("model", String),
    Column("node", String),
    Column("key_id", String),
    Column("raw", Text, nullable=False),
    Index(None, "request_id"),
    Index(None, "type", "position"),
    Index(None, "model", "position"),
    Index(None, "node", "position"),
    Index(None, "time_ms"),
)

LEDGER_STATE = Table(
    "ledger_state",
    METADATA,
    # One row: what all sums were made with.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    # Whose days the days are, by its IANA name; NULL before the first management.
    Column("time_zone", String),
    # Events of an earlier time are deleted, or will be, and none is taken any more.
    Column("horizon_ms", BigInteger, nullable=False),
    # The last day of which usage and money have rollups, as those before it have; the first day there is for none.
    Column("rolled_up_until", Date, nullable=False, server_default="0001-01-01"),
)

CHARGES = Table(
    "charges",
    METADATA,
    Column("position", _POSITION, primary_key=True, autoincrement=False),
    Column("request_id", String, nullable=False, unique=True),
    Column("time_ms", BigInteger, nullable=False),
    Column("model", String, nullable=False),
    Column("key_id", String),
    Column("node", String),
    Column("endpoint", String, nullable=False),
    Column("status", String, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("finish_reason", String),
    Column("error_code", String),
    Column("attempt_id", String),
    Column("attempt", BigInteger),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("n", BigInteger),
    Column("max_tokens", BigInteger),
    Column("upstream_model", String),
    Column("provider", String),
    Column("node_type", String),
    Column("host", String),
    Column("version", String),
    Column("user_agent", String),
    Column("body_bytes", BigInteger),
    Column("answer_bytes", BigInteger),
    # When each stage was reached …
    Column("received_at_ms", BigInteger),
    Column("published_at_ms", BigInteger),
    Column("taken_at_ms", BigInteger),
    Column("first_token_at_ms", BigInteger),
    Column("last_token_at_ms", BigInteger),
    Column("settled_at_ms", BigInteger),
    # … and how long it lasted.
    Column("publish_ms", BigInteger),
    Column("queue_ms", BigInteger),
    Column("first_token_ms", BigInteger),
    Column("generation_ms", BigInteger),
    Column("settle_ms", BigInteger),
    Column("total_ms", BigInteger),
    Column("images", BigInteger),
    # A JSON object of texts; NULL for none.
    Column("tags", Text),
    Index(None, "time_ms", "position"),
    Index(None, "key_id", "time_ms", "position"),
    Index(None, "model", "time_ms", "position"),
    Index(None, "node", "time_ms", "position"),
)

ENDS = Table(
    "ends",
    METADATA,
    # How a request ended: of what was told, the end with the lowest rank, then time, then event id.
    Column("request_id", String, primary_key=True),
    Column("position", _POSITION, nullable=False, unique=True),
    Column("rank", SmallInteger, nullable=False),
    Column("event_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("model", String, nullable=False),
    Column("key_id", String),
    Column("node", String),
    Index(None, "time_ms", "position"),
    Index(None, "status", "time_ms", "position"),
    Index(None, "key_id", "time_ms", "position"),
    Index(None, "model", "time_ms", "position"),
    Index(None, "node", "time_ms", "position"),
    # Dead letters of a model, which are few among its ends or none.
    Index(
        "ix_ends_dead",
        "model",
        "time_ms",
        "position",
        sqlite_where=text("status = 'dead'"),
        postgresql_where=text("status = 'dead'"),
    ),
)

USAGE_DAILY = Table(
    "usage_daily",
    METADATA,
    # `''` for all charges; `name=value` for those with this tag, which are there once more.
    Column("tag", String, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("model", String, primary_key=True),
    Column("key_id", String, primary_key=True),
    Column("node", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("estimated_requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("body_bytes", BigInteger, nullable=False),
    Column("answer_bytes", BigInteger, nullable=False),
    # All tags of the days that are not rolled up.
    Index(None, "day"),
)
USAGE_ROLLUP = rollup_of(USAGE_DAILY, "usage_rollup")

NODES = Table(
    "nodes",
    METADATA,
    Column("node", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("model", String, nullable=False),
    Column("node_type", String, nullable=False),
    Column("version", String, nullable=False),
    Column("host", String),
    Column("provider", String),
    Column("first_ms", BigInteger, nullable=False),
    # What was told last about it.
    Column("last_ms", BigInteger, nullable=False),
    Column("last_type", String, nullable=False),
    Column("message", Text),
    Column("error_code", String),
    Column("until_ms", BigInteger),
    Index(None, "last_ms"),
    Index(None, "model", "last_ms"),
)

QUARANTINE = Table(
    "quarantine",
    METADATA,
    # What could not be read is known by its digest only: nobody can tell what it contains.
    Column("digest", String, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Index(None, "last_seen_ms"),
)

PROMPTS = Table(
    "prompts",
    METADATA,
    # Empty unless STORE_PROMPTS is set, here and at a gateway.
    Column("request_id", String, primary_key=True),
    Column("time_ms", BigInteger, nullable=False),
    Column("model", String, nullable=False),
    Column("key_id", String),
    Column("endpoint", String, nullable=False),
    # Its beginning, if it is long.
    Column("body", LargeBinary, nullable=False),
    Column("body_bytes", BigInteger, nullable=False),
    Index(None, "time_ms"),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    # One row per secret: a rotated key has an older row too, which is good until `expires_ms`.
    Column("name", String, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    # SHA-256 of the secret in hexadecimal digits. The secret itself is nowhere.
    Column("digest", String, nullable=False, unique=True),
    Column("prefix", String, nullable=False),
    # A JSON list of names; NULL for every model.
    Column("models", Text),
    Column("requests_per_min", BigInteger),
    Column("tokens_per_min", BigInteger),
    Column("concurrent_max", BigInteger),
    # A JSON object of texts; NULL for none.
    Column("tags", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

API_KEYS_VERSION = Table(
    "api_keys_version",
    METADATA,
    # One row, counted up by every change of `api_keys` and `budgets`: what gateways ask for each second.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
