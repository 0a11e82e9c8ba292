"""``python -m workernode``: one node, configured by its environment."""

from __future__ import annotations

import asyncio
import sys

from broker.open import broker_of
from process.lifecycle import run_role
from workernode.role import run
from workernode.settings import NodeSettings


async def _role(settings: NodeSettings, stop: asyncio.Event) -> None:
    broker = broker_of(settings)
    try:
        await run(settings, broker, stop)
    finally:
        await broker.aclose()


def main() -> int:
    """Run until told to stop; returns the exit code."""
    return run_role(NodeSettings, _role)


if __name__ == "__main__":
    sys.exit(main())
