"""Management's settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from process.settings import Settings
from process.tls import check_pair, check_readable
from store.database import UnusableDatabase, check


class ManagementSettings(Settings):
    """Where the ledger lies, where its API listens, and how events are gathered into batches."""

    management_host: str = Field("127.0.0.1", description="the address on which the REST API listens")
    management_port: int = Field(8082, ge=0, le=65535, description="the port of the REST API; 0 takes a free one")
    management_key: SecretStr | None = Field(None, description="the key that callers of the REST API must show")
    management_ssl_certfile: Path | None = Field(
        None, description="a PEM file with management's certificate and those above it, to serve over TLS"
    )
    management_ssl_keyfile: Path | None = Field(
        None, description="a PEM file with the key of that certificate, without password"
    )
    management_stop_grace_s: float = Field(5.0, gt=0, le=600, description="how long open requests may take at the end")
    # A secret because a PostgreSQL URL may hold a password.
    database_url: SecretStr = Field(
        SecretStr("sqlite+aiosqlite:///data/workernode.db"),
        description="sqlite+aiosqlite:///path/to/file.db or postgresql+asyncpg://user:password@host/database",
    )
    ledger_batch_events_max: int = Field(500, ge=1, le=5_000, description="events written in one transaction at most")
    ledger_batch_bytes_max: int = Field(
        8 * 1024 * 1024, ge=1, description="bytes of events held for one transaction, exceeded by one event at most"
    )
    ledger_batch_ms_max: int = Field(50, ge=0, le=10_000, description="how long the first event of a batch waits")
    ledger_prefetch_events: int = Field(200, ge=1, le=10_000, description="events that the broker may send ahead")
    ledger_retry_ms_max: int = Field(5_000, ge=10, le=600_000, description="the longest pause before another attempt")
    presence_waiting_max: int = Field(1_000, ge=1, le=100_000, description="heartbeats that may wait in this process")
    presence_nodes_max: int = Field(10_000, ge=1, description="nodes that are remembered at the same time")

    @field_validator("database_url")
    @classmethod
    def _usable_database(cls, url: SecretStr) -> SecretStr:
        try:
            check(url.get_secret_value())
        except UnusableDatabase as error:
            raise ValueError(str(error)) from None
        return url

    @field_validator("management_ssl_certfile", "management_ssl_keyfile")
    @classmethod
    def _readable_pem(cls, path: Path | None) -> Path | None:
        return check_readable(path)

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> ManagementSettings:
        check_pair(
            self.management_ssl_certfile,
            self.management_ssl_keyfile,
            ("MANAGEMENT_SSL_CERTFILE", "MANAGEMENT_SSL_KEYFILE"),
        )
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> ManagementSettings:
        if self.management_key is None and not _is_loopback(self.management_host):
            raise ValueError(
                f"MANAGEMENT_KEY: it is not set, but MANAGEMENT_HOST={self.management_host} can be reached from other "
                "machines. Set a key, or listen on 127.0.0.1"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
