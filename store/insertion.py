"""``INSERT … ON CONFLICT``, which SQLite and PostgreSQL write alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import Table


def insert(dialect: str, table: Table) -> postgresql.Insert:
    """An insert that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``, for the dialect of this name.

    The two constructs have the same methods, so they are typed as one of them.
    """
    if dialect == "sqlite":
        made: Any = sqlite.insert(table)
        return made  # type: ignore[no-any-return]
    return postgresql.insert(table)
