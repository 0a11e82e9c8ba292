"""Rollups: the sums of a table by day once more, by fewer columns, for questions that ask for no others."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

DIMENSIONS = frozenset(("model", "key_id", "node", "provider"))
"""The columns that a rollup may leave out; a row of it has ``''`` there."""
ROLLUPS = {
    "model": frozenset(("model", "node", "provider")),
    "key": frozenset(("key_id",)),
    "key_model": frozenset(("key_id", "model", "provider")),
}
"""Which of them each one keeps, those of the fewest rows first. A node has one model, and mostly one provider, so that
these three are hardly more rows than nodes alone."""
ALWAYS = "model"
"""The one that has every day of usage and money. The others have those that are over: a charge of a new key would be a
row of each, and of this one it seldom is."""


def rollup_of(daily: Table, name: str) -> Table:
    """The table of all rollups of a table of sums: its columns, behind the rollup's name."""
    columns = (Column(each.name, each.type, primary_key=each.primary_key, nullable=each.nullable) for each in daily.c)
    # Without row ids SQLite keeps the rows in the order of their key: a span of days is one read.
    return Table(name, daily.metadata, Column("rollup", String, primary_key=True), *columns, sqlite_with_rowid=False)


def rollups_of(table: Table) -> dict[str, frozenset[str]]:
    """Those of :data:`ROLLUPS` that leave out a column of this table of sums."""
    known = DIMENSIONS & {column.name for column in table.primary_key}
    return {name: kept for name, kept in ROLLUPS.items() if known - kept}
