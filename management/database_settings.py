"""Where the ledger lies, for management and for commands that work on it without one."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from process.settings import Settings
from store.database import UnusableDatabase, check


class DatabaseSettings(Settings):
    """The database."""

    # A secret because a PostgreSQL URL may hold a password.
    database_url: SecretStr = Field(
        SecretStr("sqlite+aiosqlite:///data/workernode.db"),
        description="sqlite+aiosqlite:///path/to/file.db or postgresql+asyncpg://user:password@host/database",
    )

    @field_validator("database_url")
    @classmethod
    def _usable_database(cls, url: SecretStr) -> SecretStr:
        try:
            check(url.get_secret_value())
        except UnusableDatabase as error:
            raise ValueError(str(error)) from None
        return url
