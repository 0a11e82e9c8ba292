"""Management's settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator, model_validator

from management.access import OWN_NAME, Access, Person, check_key, parse_keys
from management.database_settings import DatabaseSettings
from management.ledger.books import Books
from process.host import check_host, check_proxies, is_loopback
from process.tls import check_pair, check_readable
from store.ledger_state import zone_of
from store.prices import PriceList, read_prices

DAYS_MAX = 36_500


WebhookFormat = Literal["generic", "slack"]


@dataclass(frozen=True)
class Retention:
    """Whole days that each class of tables is kept, today's not counted; None for ever."""

    events_days: int | None = None
    requests_days: int | None = None
    prompts_days: int | None = None
    quarantine_days: int | None = None
    fleet_days: int | None = None


class ManagementSettings(DatabaseSettings):
    """Where the API listens, and how events are gathered into batches."""

    management_host: str = Field("127.0.0.1", description="the address on which the REST API listens")
    management_port: int = Field(8082, ge=0, le=65535, description="the port of the REST API; 0 takes a free one")
    management_key: SecretStr | None = Field(None, description="the key that callers of the REST API must show")
    management_keys: SecretStr | None = Field(
        None,
        description="more such keys by name, by commas or one on each line, for people who read and people who act: "
        "a=reader:key,b=operator:key",
    )
    management_ssl_certfile: Path | None = Field(
        None, description="a PEM file with management's certificate and those above it, to serve over TLS"
    )
    management_ssl_keyfile: Path | None = Field(
        None, description="a PEM file with the key of that certificate, without password"
    )
    management_trusted_proxies: str = Field(
        "",
        description="addresses and networks of proxies before management whose x-forwarded-for is believed, by commas: "
        "wrong keys are counted by who shows them; nobody's if empty",
    )
    management_stop_grace_s: float = Field(5.0, gt=0, le=600, description="how long open requests may take at the end")
    ledger_batch_events_max: int = Field(1_000, ge=1, le=5_000, description="events written in one transaction at most")
    ledger_batch_bytes_max: int = Field(
        8 * 1024 * 1024, ge=1, description="bytes of events held for one transaction, exceeded by one event at most"
    )
    ledger_batch_ms_max: int = Field(50, ge=0, le=10_000, description="how long the first event of a batch waits")
    ledger_prefetch_events: int = Field(500, ge=1, le=10_000, description="events that the broker may send ahead")
    ledger_retry_ms_max: int = Field(5_000, ge=10, le=600_000, description="the longest pause before another attempt")
    presence_waiting_max: int = Field(1_000, ge=1, le=100_000, description="heartbeats that may wait in this process")
    presence_nodes_max: int = Field(10_000, ge=1, description="nodes that are remembered at the same time")

    alert_webhook_url: SecretStr | None = Field(
        None, description="where alerts are posted as JSON: troubles that last until someone acts, and their ends"
    )
    alert_webhook_format: WebhookFormat = Field(
        "generic", description="generic, or slack for what Slack's webhooks take"
    )

    time_zone: str = Field("UTC", description="whose days the ledger's days are, such as Europe/Berlin")
    prices_file: Path | None = Field(
        None, description="a TOML file with what customers pay for models, and what attempts cost: docs/money.md"
    )
    store_prompts: bool = Field(
        False, description="true to keep what clients send: gateways send it, and management stores it, only then"
    )
    retention_events_days: int | None = Field(
        None, ge=1, le=DAYS_MAX, description="days that events are kept, from which all sums can be made anew"
    )
    retention_requests_days: int | None = Field(
        None, ge=1, le=DAYS_MAX, description="days that single charges and ends are kept; sums by day stay"
    )
    retention_prompts_days: int = Field(30, ge=1, le=DAYS_MAX, description="days that prompts are kept, if any are")
    retention_quarantine_days: int | None = Field(
        None, ge=1, le=DAYS_MAX, description="days that digests of unreadable messages are kept"
    )
    retention_fleet_days: int | None = Field(
        None,
        ge=1,
        le=DAYS_MAX,
        description="days that nodes that are gone, alerts that are over and operators' actions are kept",
    )

    @field_validator("alert_webhook_url")
    @classmethod
    def _postable(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            text = url.get_secret_value()
            if not text.startswith(("http://", "https://")) or not text.isprintable() or " " in text:
                raise ValueError("it must be an address that begins with https:// or http://")
        return url

    @field_validator("management_key")
    @classmethod
    def _usable_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            check_key(key.get_secret_value(), "it")
        return key

    @field_validator("management_keys")
    @classmethod
    def _readable_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            parse_keys(keys.get_secret_value())
        return keys

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zone_of(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                "no time zone of this name is known: write one such as Europe/Berlin, or install the package tzdata "
                "where the machine knows none"
            ) from None
        return name

    @field_validator("prices_file")
    @classmethod
    def _usable_prices(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_prices(path)
        return path

    @field_validator("management_host")
    @classmethod
    def _usable_host(cls, host: str) -> str:
        return check_host(host)

    @field_validator("management_trusted_proxies")
    @classmethod
    def _usable_proxies(cls, proxies: str) -> str:
        return check_proxies(proxies)

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
        if not self.access.asks_for_key and not is_loopback(self.management_host):
            raise ValueError(
                f"MANAGEMENT_KEY: it is not set, but MANAGEMENT_HOST={self.management_host} can be reached from other "
                "machines. Set a key, or listen on 127.0.0.1"
            )
        return self

    @cached_property
    def access(self) -> Access:
        """Who may ask, and who may act."""
        keys = parse_keys(self.management_keys.get_secret_value()) if self.management_keys else {}
        if self.management_key is not None:
            key = self.management_key.get_secret_value()
            if key in keys:
                raise ValueError("MANAGEMENT_KEY: it is one of MANAGEMENT_KEYS, too. Take it out there")
            keys[key] = Person(OWN_NAME, "operator")
        return Access(keys)

    @cached_property
    def books(self) -> Books:
        """What sums are made with."""
        prices = read_prices(self.prices_file) if self.prices_file else PriceList()
        return Books(zone_of(self.time_zone), prices, self.store_prompts)

    @property
    def retention(self) -> Retention:
        """How long what is kept."""
        return Retention(
            self.retention_events_days,
            self.retention_requests_days,
            self.retention_prompts_days,
            self.retention_quarantine_days,
            self.retention_fleet_days,
        )
