"""Alembic's entry: runs on the connection, and inside the transaction, that :func:`store.migrate.upgrade` opened."""

from alembic import context

import store.fleet_tables
import store.money_tables  # noqa: F401 (they add their tables)
from store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
