"""Opens the broker that an address names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from broker.interface import Broker


def open_broker(
    url: str, *, token: str | None = None, token_file: Path | None = None, tls_trust_certs: Path | None = None
) -> Broker:
    """A broker for ``memory:``, ``pulsar://host:port`` or ``pulsar+ssl://host:port``; it connects with its first call.

    A token in ``token_file`` is read again for each connection, so that it may rotate on disk. ``tls_trust_certs`` is
    the file with the authorities to trust; without it those of the certifi package. Raises :class:`ValueError` for
    another address.
    """
    if url == "memory:":
        # Imported here so that a first look needs no Pulsar client, and the other way round.
        from broker.memory import MemoryBroker

        return MemoryBroker()
    if url.startswith(("pulsar://", "pulsar+ssl://")):
        from broker.pulsar import PulsarBroker

        shown = (lambda: token_file.read_text(encoding="utf-8").strip()) if token_file else token
        return PulsarBroker(url, token=shown, tls_trust_certs=str(tls_trust_certs) if tls_trust_certs else None)
    raise ValueError("The broker's address must be memory:, pulsar://host:port or pulsar+ssl://host:port.")
