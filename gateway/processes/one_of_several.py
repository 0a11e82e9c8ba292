"""``python -m gateway.processes.one_of_several``: one process of a gateway. Only
:mod:`gateway.processes.first` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from broker.open import open_broker
from gateway.processes.channel import Channel
from gateway.processes.sibling import Sibling
from gateway.role import run
from gateway.settings import GatewaySettings
from process.lifecycle import run_role


async def _role(settings: GatewaySettings, stop: asyncio.Event, listener: int, channel: int, *, late: bool) -> None:
    connection = await Channel.over(socket.socket(fileno=channel))
    sibling = Sibling(socket.socket(fileno=listener), connection, is_late=late)
    hearing = asyncio.get_running_loop().create_task(sibling.listen())
    # Who was killed sends no signal: the end of the channel is one.
    hearing.add_done_callback(lambda _: stop.set())
    broker = open_broker(settings.pulsar_url, **settings.broker_options)
    try:
        await run(settings, broker, stop, ready=sibling.tell_ready, sibling=sibling)
    finally:
        await broker.aclose()
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hearing
        connection.close()


def main(number: str, listener: str, channel: str, *late: str) -> int:
    """Run until told to stop, or left alone; returns the exit code."""
    return run_role(
        GatewaySettings,
        lambda settings, stop: _role(settings, stop, int(listener), int(channel), late=bool(late)),
        process=int(number),
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
