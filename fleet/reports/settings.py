"""Where these commands find management."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from process.settings import Settings


class ReportSettings(Settings):
    """Management's address, and the key that it asks for."""

    management_url: str = Field(
        "http://127.0.0.1:8082",
        description="where management's REST API is; SSL_CERT_FILE names a certificate of its own, or its authority",
    )
    management_key: SecretStr | None = Field(None, description="the key that callers of the REST API must show")

    @field_validator("management_url")
    @classmethod
    def _usable_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in url
        except ValueError:
            usable = False
        if not usable or not url.isprintable() or " " in url:
            raise ValueError("it begins with http:// or https://, names a host, and holds no password")
        return url.rstrip("/")
