"""Rollups: the sums of a table by day once more, by fewer columns, for questions that ask for no others."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

DIMENSIONS = frozenset(("model", "key_id", "node", "provider"))
"""The columns that a rollup may leave out; a row of it has ``''`` there."""
ROLLUPS = {"model": frozenset(("model", "node", "provider")), "key": frozenset(("key_id",))}
"""Which of them each one keeps. A node has one model, and mostly one provider, so that these three are hardly more
rows than nodes alone."""


def rollup_of(daily: Table, name: str) -> Table:
    """The table of all rollups of a table of sums: its columns, behind the rollup's name."""
    columns = (Column(each.name, each.type, primary_key=each.primary_key, nullable=each.nullable) for each in daily.c)
    # Without row ids SQLite keeps the rows in the order of their key: a span of days is one read.
    return Table(name, daily.metadata, Column("rollup", String, primary_key=True), *columns, sqlite_with_rowid=False)
