"""``fleet up``: gateway, node and management in one process on the embedded broker.

For a first look: nothing survives it but the ledger's file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import gateway.role
import management.role
import workernode.role
from broker.memory import MemoryBroker, MemoryServer
from fleet.dead_letters.late_replay import replay
from gateway.settings import GatewaySettings
from management.settings import ManagementSettings
from process.lifecycle import EXIT_PORT_IN_USE, PortInUse, run_until_signal
from process.logging import Log, set_up
from process.settings import EMBEDDED_URL, EXIT_WRONG_SETTING, WrongSettings, load
from store.database import UnusableDatabase
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

log = Log("fleet")


class UpSettings:
    """The settings of all three roles, read together. Raises :class:`process.settings.WrongSettings`."""

    def __init__(self) -> None:
        environ = {**os.environ, "PULSAR_URL": EMBEDDED_URL}
        problems: dict[str, None] = {}
        loaded = []
        for settings in (GatewaySettings, NodeSettings, ManagementSettings):
            try:
                loaded.append(load(settings, environ))
            except WrongSettings as wrong:
                problems.update(dict.fromkeys(wrong.problems))
        if problems:
            raise WrongSettings(list(problems))
        self.gateway, self.node, self.management = loaded


def up() -> int:
    """Run until told to stop; returns the exit code."""
    try:
        settings = UpSettings()
    except WrongSettings as wrong:
        for problem in wrong.problems:
            print(problem, file=sys.stderr)
        return EXIT_WRONG_SETTING
    secrets = settings.gateway.secrets | settings.node.secrets | settings.management.secrets
    set_up(**(settings.gateway.logging | {"secrets": secrets}))
    try:
        run_until_signal(lambda stop: _all(settings, stop))
    except WrongSettings as wrong:
        print(wrong, file=sys.stderr)
        return EXIT_WRONG_SETTING
    except UnusableDatabase as error:
        print(f"DATABASE_URL: {error}.", file=sys.stderr)
        return EXIT_WRONG_SETTING
    except PortInUse as error:
        print(error, file=sys.stderr)
        return EXIT_PORT_IN_USE
    return 0


async def _all(settings: Any, stop: asyncio.Event) -> None:
    """Start the roles and stop them in order: no new requests, running ones to their end, then the last bills."""
    log.warning("The embedded broker keeps requests in memory only: they end with this process.", action="embedded")
    server = MemoryServer()
    brokers = [MemoryBroker(server) for _ in range(3)]
    stops = [asyncio.Event() for _ in range(3)]
    runs: list[Callable[[], Coroutine[Any, Any, None]]] = [
        lambda: gateway.role.run(settings.gateway, brokers[0], stops[0]),
        lambda: workernode.role.run(settings.node, brokers[1], stops[1]),
        lambda: management.role.run(settings.management, brokers[2], stops[2], replay=replay),
    ]
    tasks = [asyncio.get_running_loop().create_task(run()) for run in runs]
    stopping = asyncio.get_running_loop().create_task(stop.wait())
    at_work = {*tasks, stopping}
    node = tasks[1]
    try:
        await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
        if node.done() and node.exception() is None:
            # It was drained: its model has no node any more, and the others go on.
            await asyncio.wait(at_work - {node}, return_when=asyncio.FIRST_COMPLETED)
        for event, task in zip(stops, tasks, strict=True):
            event.set()
            await task
    finally:
        stopping.cancel()
        for event in stops:
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        for broker in brokers:
            await broker.aclose()
