"""``python -m gateway``: one gateway, in one process or several, configured by its environment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gateway.settings import GatewaySettings
from process.lifecycle import run_role

if TYPE_CHECKING:
    import asyncio


async def _role(settings: GatewaySettings, stop: asyncio.Event) -> None:
    if settings.gateway_processes > 1:
        from gateway.processes.first import supervise

        await supervise(settings, stop)
        return
    # What serves is only read by who serves: the first of several processes stays small.
    from broker.open import open_broker
    from gateway.role import run

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
