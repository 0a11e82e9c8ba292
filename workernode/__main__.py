"""``python -m workernode``: one node, configured by its environment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from broker.open import open_broker
from process.lifecycle import run_role
from workernode.role import run
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    import asyncio


async def _role(settings: NodeSettings, stop: asyncio.Event) -> None:
    broker = open_broker(settings.pulsar_url, **settings.broker_options)
    try:
        await run(settings, broker, stop)
    finally:
        await broker.aclose()


def main() -> int:
    """Run until told to stop; returns the exit code."""
    return run_role(NodeSettings, _role)


if __name__ == "__main__":
    sys.exit(main())
