"""Opens the broker that an address names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker


def open_broker(
    url: str, *, token: str | Callable[[], str] | None = None, tls_trust_certs: str | None = None
) -> Broker:
    """A broker for ``memory:``, ``pulsar://host:port`` or ``pulsar+ssl://host:port``; it connects with its first call.

    ``token`` may be a callable, which is asked anew for each connection. ``tls_trust_certs`` is the path of the
    authorities to trust; without it those of the certifi package. Raises :class:`ValueError` for another address.
    """
    if url == "memory:":
        # Imported here so that a first look needs no Pulsar client, and the other way round.
        from broker.memory import MemoryBroker

        return MemoryBroker()
    if url.startswith(("pulsar://", "pulsar+ssl://")):
        from broker.pulsar import PulsarBroker

        return PulsarBroker(url, token=token, tls_trust_certs=tls_trust_certs)
    raise ValueError("The broker's address must be memory:, pulsar://host:port or pulsar+ssl://host:port.")


def token_from_file(path: str) -> Callable[[], str]:
    """A token that is read again for each connection, so that it may rotate on disk."""
    return lambda: Path(path).read_text(encoding="utf-8").strip()
