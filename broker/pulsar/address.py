"""The address of a broker, as people may read it."""

from __future__ import annotations

from urllib.parse import urlsplit


class Address:
    """``pulsar://host:port`` or ``pulsar+ssl://host:port``; several hosts may be separated by commas."""

    def __init__(self, url: str) -> None:
        scheme, separator, hosts = url.partition("://")
        if not separator or scheme not in {"pulsar", "pulsar+ssl"}:
            raise ValueError("A broker's address begins with pulsar:// or pulsar+ssl://.")
        self.tls = scheme == "pulsar+ssl"
        default_port = 6651 if self.tls else 6650
        # Parsed one by one; whatever stands before an @ is left out, so that the text can be shown.
        parts = [urlsplit(f"//{host}") for host in hosts.rstrip("/").split(",")]
        self.endpoints = [(part.hostname or "localhost", part.port or default_port) for part in parts]
        shown = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.endpoints)
        self.text = f"{scheme}://{shown}"

    def __str__(self) -> str:
        return self.text


def is_persistent(topic: str) -> bool:
    """Whether the broker stores what is published there."""
    return not topic.startswith("non-persistent://")
