"""Opens the broker that an address names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from broker.interface import Broker


def open_broker(
    url: str,
    *,
    token: str | None = None,
    token_file: Path | None = None,
    tls_trust_certs: Path | None = None,
    **limits: Any,
) -> Broker:
    """A broker for ``memory:``, ``pulsar://host:port`` or ``pulsar+ssl://host:port``; it connects with its first call.

    A token in ``token_file`` is read again for each connection, so that it may rotate on disk. ``tls_trust_certs`` is
    the file with the authorities to trust; without it those of the certifi package. ``limits`` are those of
    :class:`broker.pulsar.limits.PulsarLimits`; the memory broker has its own. Raises :class:`ValueError` for another
    address.
    """
    if url == "memory:":
        # Imported here so that a first look needs no Pulsar client, and the other way round.
        from broker.memory import MemoryBroker

        return MemoryBroker()
    if url.startswith(("pulsar://", "pulsar+ssl://")):
        from broker.pulsar import PulsarBroker
        from broker.pulsar.limits import PulsarLimits

        shown = (lambda: token_file.read_text(encoding="utf-8").strip()) if token_file else token
        authorities = str(tls_trust_certs) if tls_trust_certs else None
        return PulsarBroker(url, token=shown, tls_trust_certs=authorities, limits=PulsarLimits(**limits))
    raise ValueError("The broker's address must be memory:, pulsar://host:port or pulsar+ssl://host:port.")
