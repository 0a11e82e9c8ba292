"""Where Pulsar's admin interface is, for the commands that ask it or tell it something: ``doctor`` and ``access``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from process.settings import Settings
from process.tls import trusting

if TYPE_CHECKING:
    from ssl import SSLContext


class AdminSettings(Settings):
    """The broker, and its admin interface."""

    pulsar_admin_url: str = Field(
        "", description="the broker's admin address; port 8080 of the host in PULSAR_URL if unset"
    )

    @field_validator("pulsar_admin_url")
    @classmethod
    def _usable_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = not url or (parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc)
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("it must begin with http:// or https://, name a host, and hold no password")
        return url.rstrip("/")

    @property
    def admin_token(self) -> str | None:
        """What is shown to it. Raises :class:`OSError` if there is a file of it that cannot be read."""
        if self.pulsar_token_file is not None:
            return self.pulsar_token_file.read_text(encoding="utf-8").strip()
        return self.pulsar_token.get_secret_value() if self.pulsar_token else None

    @property
    def admin_trust(self) -> SSLContext:
        """What its certificate is checked with, as the broker's. Raises :class:`OSError`."""
        return trusting(self.pulsar_tls_trust_certs)

    @property
    def admin_url(self) -> str:
        """``PULSAR_ADMIN_URL``, or the usual port on the broker's (first) host."""
        if self.pulsar_admin_url:
            return self.pulsar_admin_url
        host = urlsplit(f"//{self.pulsar_url.partition('://')[2].split(',')[0]}").hostname or "localhost"
        return f"http://[{host}]:8080" if ":" in host else f"http://{host}:8080"
