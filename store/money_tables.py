"""The tables of money. Amounts are nanos (see :mod:`store.amount`), beside the currency that they are in.

``priced``, ``money_daily``, ``money_rollup`` and ``spent_daily`` are projections of the events under a price list;
repricing makes them anew. ``budgets`` is written by ``fleet budgets``, ``reservations`` by gateways and management.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, Index, Integer, String, Table, Text

from store.rollups import rollup_of
from store.tables import CHARGES, ENDS, METADATA, USAGE_DAILY, USAGE_ROLLUP

PRICE_LISTS = Table(
    "price_lists",
    METADATA,
    # Every list that anything was ever priced with.
    Column("version", String, primary_key=True),
    Column("content", Text, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
)

PRICED = Table(
    "priced",
    METADATA,
    # One row per event that tells of use: what the customer pays for it, and what it costs the operator.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("price_version", String, nullable=False),
    # NULL where there is no price, or nobody is charged.
    Column("amount", BigInteger),
    Column("currency", String),
    Column("cost", BigInteger),
    Column("cost_currency", String),
    Index(None, "time_ms"),
)

MONEY_DAILY = Table(
    "money_daily",
    METADATA,
    # `''` for everything; `name=value` for the charges with this tag, which are there once more.
    Column("tag", String, primary_key=True),
    # `charge`: what customers pay. `cost`: what charged attempts cost the operator, `waste` what the others cost.
    Column("side", String, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("model", String, primary_key=True),
    Column("key_id", String, primary_key=True),
    Column("node", String, primary_key=True),
    Column("provider", String, primary_key=True),
    # `''` for what has no price.
    Column("currency", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    # All tags of the days that are not rolled up.
    Index(None, "day"),
)
MONEY_ROLLUP = rollup_of(MONEY_DAILY, "money_rollup")

SPENT_DAILY = Table(
    "spent_daily",
    METADATA,
    # What budgets are compared with.
    Column("scope", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("currency", String, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

BUDGETS = Table(
    "budgets",
    METADATA,
    # `key`, `tag` or `model`; the key's name, `name=value`, or the model's name.
    Column("scope", String, primary_key=True),
    Column("subject", String, primary_key=True),
    # `day`, `month` or `total`.
    Column("period", String, primary_key=True),
    Column("currency", String, nullable=False),
    Column("amount_max", BigInteger, nullable=False),
    Column("warn_percent", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

RESERVATIONS = Table(
    "reservations",
    METADATA,
    # What an open request may come to cost, held in each budget that it touches until its end is told.
    Column("request_id", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index(None, "scope", "subject", "period"),
)

MONEY = (MONEY_DAILY, MONEY_ROLLUP, SPENT_DAILY)
"""What repricing makes anew, beside :data:`PRICED`."""
SUMS = (USAGE_DAILY, USAGE_ROLLUP, *MONEY)
"""Projections by day: of days whose events are deleted they are all that is left."""
ROWS = (CHARGES, ENDS)
"""Projections by request."""
