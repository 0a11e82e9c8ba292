"""Management as a role: it can be a process of its own, or share one with others."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from broker.open import open_broker
from management.app import application
from management.fleet.actions import Actions
from management.fleet.alerts import Watch
from management.fleet.backlogs import Backlogs
from management.fleet.nodes import FleetListener, NodeRegistry
from management.fleet.overseer import Overseer
from management.fleet.view import FleetView
from management.fleet.webhook import Teller
from management.guesses import Guesses
from management.ledger.consumer import Ledger
from management.ledger.journal import write
from management.ledger.opening import open_books
from management.metrics import Metrics
from management.pages.pages import Front
from management.pages.site import Sources
from management.persistence import Persistence, Stopping
from management.readiness import Readiness
from management.retention import keep
from process.http import bind, serving
from process.identity import new_incarnation, now_ms
from process.logging import Log
from process.metrics import registry as figures
from process.settings import split
from process.tls import tls_options
from store import database
from store.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncEngine

    from broker.interface import Broker
    from dead_letters.deciding import Replay
    from management.ledger.journal import Entry, Written
    from management.settings import ManagementSettings
    from wire.presence import Presence

log = Log("management")


async def run(
    settings: ManagementSettings,
    broker: Broker,
    stop: asyncio.Event,
    *,
    ready: Callable[[], None] | None = None,
    listening: Callable[[int], None] | None = None,
    replay: Replay | None = None,
) -> None:
    """Keep the ledger and serve its API until ``stop`` is set.

    ``listening`` is called with the port once it answers, ``ready`` once all works for the first time. ``replay`` is
    what only a gateway can do, and rooms do not import one another.

    The broker stays open: it belongs to the caller. Raises :class:`store.database.UnusableDatabase` and
    :class:`process.lifecycle.PortInUse` at the start, and nothing for a database or broker that is away.
    """
    engine = database.open(settings.database_url.get_secret_value())
    readiness = Readiness(lambda: broker.connected, ready)
    registry = NodeRegistry(nodes_max=settings.presence_nodes_max)
    metrics = Metrics(figures())
    metrics.follow(registry.count)
    persistence = Persistence(readiness, stop, retry_s_max=settings.ledger_retry_ms_max / 1000)

    books = settings.books

    async def write_now(entries: Sequence[Entry]) -> Written:
        return await write(engine, entries, now_ms(), books)

    ledger = Ledger(settings, write_now, persistence, metrics)
    name = new_incarnation("management")
    backlogs = Backlogs()
    listener = FleetListener(settings, registry, backlogs, persistence, metrics, name)
    overseer = Overseer(engine, broker, settings.topics, registry, name)
    watch = Watch(engine, broker, registry, metrics, lambda: listener.heard_at)
    teller = Teller(engine, metrics, settings.alert_webhook_url, settings.alert_webhook_format)
    actions = Actions(engine, broker, settings.topics, registry, overseer, name, replay)
    view = FleetView(engine, registry, backlogs)
    watch.changed = teller.look_now

    def heard(presence: Presence) -> None:
        overseer.heard(presence)
        watch.heard(presence)

    listener.heard = heard
    api = application(engine, view, actions, readiness, metrics, settings.access, Guesses(metrics.wrong_keys), books)
    sources = Sources(engine, view, actions, registry, readiness, metrics, books, stop)
    app = Front(api, sources, settings.access, Guesses(metrics.wrong_keys))
    socket = bind(settings.management_host, settings.management_port, "MANAGEMENT_PORT")
    tls = tls_options(settings.management_ssl_certfile, settings.management_ssl_keyfile)
    try:
        proxies = split(settings.management_trusted_proxies)
        async with serving(app, socket, stop_grace_s=settings.management_stop_grace_s, trusted_proxies=proxies, **tls):
            port = socket.getsockname()[1]
            log.info("Management listens.", action="listens", port=port)
            if listening is not None:
                listening(port)
            keepers = (partial(keep, engine, settings.retention, books, registry), overseer.run, watch.run, teller.run)
            await _work(settings, engine, broker, persistence, ledger, listener, keepers, stop)
    finally:
        await actions.aclose()
        await engine.dispose()
    log.info("Management has ended.", action="ended")


async def _work(
    settings: ManagementSettings,
    engine: AsyncEngine,
    broker: Broker,
    persistence: Persistence,
    ledger: Ledger,
    listener: FleetListener,
    keepers: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    stop: asyncio.Event,
) -> None:
    try:
        await persistence.until_done(
            "database",
            "The database cannot be opened yet, or its tables are still brought up to date.",
            partial(upgrade, engine),
        )
        await persistence.until_done(
            "database",
            "The database cannot be written at the moment.",
            lambda: open_books(engine, settings.books, now_ms()),
        )
        await persistence.until_done("broker", "The broker cannot be reached at the moment.", broker.connect)
    except Stopping:
        return
    # Neither of them ends by itself. Should one fail in a way that nobody foresaw, the process ends with it, and
    # what was not acknowledged waits in the topic.
    async with asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(keeper()) for keeper in keepers]
        tasks.create_task(listener.run(broker, stop), name="presence")
        try:
            await ledger.run(broker, stop)
        finally:
            for task in keeping:
                task.cancel()


async def standalone(settings: ManagementSettings, stop: asyncio.Event, *, replay: Replay | None = None) -> None:
    """Management in a process of its own, with its own connection to the broker."""
    broker = open_broker(settings.pulsar_url, **settings.broker_options)
    try:
        await run(settings, broker, stop, replay=replay)
    finally:
        await broker.aclose()
