"""``python -m gateway``: one gateway, configured by its environment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from broker.open import open_broker
from gateway.role import run
from gateway.settings import GatewaySettings
from process.lifecycle import run_role

if TYPE_CHECKING:
    import asyncio


async def _role(settings: GatewaySettings, stop: asyncio.Event) -> None:
    broker = open_broker(settings.pulsar_url, **settings.broker_options)
    try:
        await run(settings, broker, stop)
    finally:
        await broker.aclose()


def main() -> int:
    """Run until told to stop; returns the exit code."""
    return run_role(GatewaySettings, _role)


if __name__ == "__main__":
    sys.exit(main())
