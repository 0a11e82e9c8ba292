"""What tests of connections to a broker need: the connections themselves, and what their members ask of theirs."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from broker.pulsar import PulsarLimits
from broker.pulsar.address import Address
from broker.pulsar.channels import Channels
from broker.pulsar.credential import Credential
from broker.pulsar.limits import Window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEPT = "persistent://public/default/kept"
PASSING = "non-persistent://public/default/passing"
LIMITS = PulsarLimits(
    ping_timeout_s=0.2, connect_timeout_s=2.0, operation_timeout_s=2, open_timeout_s=0.5, closing_s=0.5
)


@contextlib.asynccontextmanager
async def opened(
    url: str,
    *,
    limits: PulsarLimits = LIMITS,
    token: str | Callable[[], str] | None = None,
    authorities: str | None = None,
) -> AsyncIterator[Channels]:
    """Connections that end with the block."""
    channels = Channels(Address(url), Credential(token=token, tls_trust_certs=authorities), limits)
    try:
        yield channels
    finally:
        await channels.aclose()


def broker_of(channels: Channels, url: str) -> Any:
    """What a member needs of its broker."""
    return SimpleNamespace(
        channels=channels,
        limits=LIMITS,
        window=Window(LIMITS.pending_sends_max, LIMITS.pending_bytes_max),
        connected=True,
        lost=False,
        address=url,
        members=set(),
        hurry=lambda: None,
        doubt=lambda topic: None,
        ensure_again=_nothing_to_ensure,
    )


async def _nothing_to_ensure(topic: str) -> None:
    pass
