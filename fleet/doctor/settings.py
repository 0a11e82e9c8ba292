"""What the doctor reads from the environment beside the settings of the roles."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from process.settings import Settings


class DoctorSettings(Settings):
    """Where the broker's admin interface is; it is only asked, never told anything."""

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
    def admin_url(self) -> str:
        """``PULSAR_ADMIN_URL``, or the usual port on the broker's (first) host."""
        if self.pulsar_admin_url:
            return self.pulsar_admin_url
        host = urlsplit(f"//{self.pulsar_url.partition('://')[2].split(',')[0]}").hostname or "localhost"
        return f"http://[{host}]:8080" if ":" in host else f"http://{host}:8080"
