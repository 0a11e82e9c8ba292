"""Where commands find the database."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from process.settings import Settings
from store.database import UnusableDatabase, check


class DatabaseSettings(Settings):
    """The one setting of these commands; its default is management's."""

    database_url: SecretStr = Field(
        SecretStr("sqlite+aiosqlite:///data/workernode.db"), description="the database that management uses"
    )

    @field_validator("database_url")
    @classmethod
    def _usable_database(cls, url: SecretStr) -> SecretStr:
        try:
            check(url.get_secret_value())
        except UnusableDatabase as error:
            raise ValueError(str(error)) from None
        return url
