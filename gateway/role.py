"""A gateway from start to end: listen, connect, call the roll, serve, finish what is open, leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from broker.reaching import Reach, Stopped, keep
from gateway.app import build
from gateway.keys.api_keys import ApiKeys, parse_keys
from gateway.metrics import GatewayMetrics
from gateway.models.register import Models
from gateway.presence import PresenceListener
from gateway.queue.admission import Admission
from gateway.queue.backlog import Backlog
from gateway.queue.broker_wait import BrokerWait
from gateway.queue.neighbours import Neighbours
from gateway.queue.request_queue import RequestQueue
from gateway.reception import Reception
from gateway.requests.acceptances import Acceptances
from gateway.requests.conversations import Conversations
from gateway.requests.line import Lines
from gateway.requests.orders import Orders
from gateway.requests.record import GatewayRecorder
from gateway.requests.refusals import Refusals
from gateway.token_counter import TokenCounter
from gateway.token_questions import TokenQuestions
from process.http import bind, serving
from process.identity import new_incarnation
from process.lifecycle import Tasks
from process.logging import Log
from process.settings import WrongSettings, split
from process.timers import Timers
from process.tls import tls_options
from process.traces import open_traces
from store.prices import PriceList, read_prices
from wire import topics as names
from wire.errors import ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker
    from gateway.keys.budgets import Budgets
    from gateway.keys.keyring import Keyring
    from gateway.keys.quota import Quota
    from gateway.models.aimodels import AIModel, AIModels
    from gateway.models.names import ModelNames
    from gateway.processes.sibling import Sibling
    from gateway.settings import GatewaySettings

log = Log("gateway")

EVENTS_GATHER_MS = 20
SETTLE_S = 0.5
"""How long a gateway that leaves waits for nodes to settle, and for its own last events."""


async def run(
    settings: GatewaySettings,
    broker: Broker,
    stop: asyncio.Event,
    *,
    ready: Callable[[], None] | None = None,
    sibling: Sibling | None = None,
) -> None:
    """Serve until ``stop`` is set. ``ready`` is called once requests can be taken; ``sibling`` is this process's place
    among several.

    Listens from the start, so that a probe hears why it is not ready yet. Raises :class:`process.lifecycle.PortInUse`,
    and :class:`process.settings.WrongSettings` for a database that cannot be one.
    """
    gateway = new_incarnation("gateway")
    timers = Timers(asyncio.get_running_loop())
    metrics = GatewayMetrics()
    topics = settings.topics
    tasks = Tasks(log)
    model_names = settings.model_names
    models = Models(model_names.declared, timers.loop.time(), int(time.time()))
    wait = BrokerWait(
        broker,
        wait_s=settings.broker_wait_s,
        requests_max=settings.publish_pending_max,
        bytes_max=settings.publish_pending_bytes_max,
    )
    metrics.held.set_function(lambda: wait.count)
    queue = RequestQueue(broker, topics, wait)
    aimodels = _aimodels(settings, model_names, models, queue) if settings.aimodels_namespace else None
    recorder = GatewayRecorder(gateway, tasks)
    refusals = Refusals(gateway, metrics, recorder)
    conversations = Conversations(
        recorder,
        metrics,
        models,
        timers,
        conversations_max=settings.requests_max,
        stream_buffer_bytes_max=settings.stream_buffer_bytes_max,
        answer_bytes_max=settings.answer_bytes_max,
    )
    metrics.open.set_function(lambda: conversations.open_count)
    metrics.unsettled.set_function(lambda: conversations.unsettled_count)
    metrics.owned.set_function(lambda: len(conversations))
    lines = conversations.lines = Lines(gateway, broker, topics, conversations, metrics)
    presence = PresenceListener(gateway, broker, topics, models, queue, metrics)
    backlog = Backlog(gateway)
    metrics.waiting.set_function(lambda: backlog.waiting)
    metrics.waiting_elsewhere.set_function(lambda: backlog.waiting_elsewhere)
    neighbours = Neighbours(gateway, broker, topics, models, backlog, metrics)
    orders = Orders(broker, topics, conversations, metrics)
    admission = Admission(models, backlog, cold_requests_max=settings.cold_requests_max)
    acceptances = Acceptances(gateway, recorder, with_prompts=settings.store_prompts)
    reception = Reception(
        settings, gateway, model_names, models, admission, queue, conversations, metrics, acceptances, timers
    )
    stored = quota = None
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        stored, quota, reception.budgets = _of_database(url, settings, tasks, metrics, sibling)
    reach = Reach(lambda why: log.error(why, action="broker_unreachable"), stop)
    own = parse_keys(settings.api_keys.get_secret_value()) if settings.api_keys else {}
    keys = ApiKeys(own, stored, anonymous=settings.lets_strangers_in)

    def why_not_ready() -> str | None:
        if reception.leaving:
            return "The gateway is shutting down."
        if not broker.connected and not wait.is_offered:
            return "The broker cannot be reached."
        if reach.why:
            return "The broker does not give what the gateway needs; its log says what."
        if stored is not None and not own and not stored.is_known:
            return "The database of keys cannot be read."
        if not presence.roll_called:
            return "The nodes have not answered the roll call yet."
        if sibling is not None and not sibling.all_ready:
            return "Not all processes of the gateway take requests yet."
        return None

    async def figures() -> bytes:
        return generate_latest(metrics.registry) if sibling is None else await sibling.figures()

    counter = TokenCounter(settings, model_names, models, TokenQuestions(lines, models), timers)
    local = not settings.allow_anonymous
    app = build(
        reception,
        counter,
        model_names,
        models,
        keys,
        metrics,
        figures,
        why_not_ready,
        quota,
        settings.cors,
        is_local=local,
    )
    if sibling is None:
        listener, is_late = bind(settings.host, settings.port, "PORT"), False
    else:
        listener, is_late, sibling.registry = sibling.listener, sibling.is_late, metrics.registry
    door = serving(
        app,
        listener,
        stop_grace_s=settings.stop_grace_s,
        head_bytes_max=settings.head_bytes_max,
        head_wait_s=settings.head_wait_s,
        trusted_proxies=split(settings.trusted_proxies),
        refusal_headers=settings.cors.headers if settings.cors else lambda _: [],
        **tls_options(settings.ssl_certfile, settings.ssl_keyfile),
        timeout_keep_alive=settings.idle_connection_s,
    )
    async with contextlib.AsyncExitStack() as stack:
        if stored is not None and quota is not None:
            stack.push_async_callback(stored.aclose)
            stack.push_async_callback(quota.aclose)
            tasks.keep(stored.run, "read keys")
        stack.push_async_callback(_close, tasks, orders, presence, neighbours, queue, lines)
        if not is_late:
            await stack.enter_async_context(door)
        if (traces := open_traces(settings, "gateway", gateway)) is not None:
            reception.traces = traces
            stack.push_async_callback(traces.aclose)
        with contextlib.suppress(Stopped):
            await reach(broker.connect)
            await reach(
                lambda: keep(
                    broker, topics.results, names.LEDGER, lambda why: log.info(why, action="subscription_unseen")
                )
            )
            recorder.producer = await reach(lambda: broker.producer(topics.results, gather_ms=EVENTS_GATHER_MS))
            tasks.keep(refusals.run, "tell refusals")
            tasks.keep(acceptances.run, "tell accepted requests")
            if aimodels is not None:
                tasks.keep(aimodels.run, "read AIModels")
            for part in (lines, presence, neighbours, orders):
                await reach(part.start)
            if stored is not None:
                await stored.tried.wait()
            if aimodels is not None:
                await aimodels.tried.wait()
            if is_late:
                await stack.enter_async_context(door)
            log.info(
                "The gateway takes requests.", action="ready", gateway=gateway, host=settings.host, port=settings.port
            )
            if ready is not None:
                ready()
            await stop.wait()
            reception.leaving = True
            await asyncio.sleep(settings.lame_duck_s)
        reception.leaving = reception.closed = True
        wait.end()
        log.info("The gateway finishes what is open and leaves.", action="draining", open=conversations.open_count)
        loop = asyncio.get_running_loop()
        until = loop.time() + settings.stop_grace_s
        if not await conversations.all_answered(settings.stop_grace_s):
            conversations.break_all(ShuttingDown(retry_after_ms=1000))
        # Nodes that have just heard a verdict still publish by it; what they leave untold is told here.
        await conversations.all_settled(SETTLE_S)
        conversations.close_books()
        refusals.tell()
        acceptances.tell()
        # While the broker takes nothing, what answers cost is waited for as answers would be.
        if lost := await recorder.flushed(max(SETTLE_S, until - loop.time())):
            log.error("Events may be lost: the broker did not confirm them in time.", action="event_lost", events=lost)
    log.info("The gateway has left.", action="stopped", gateway=gateway)


def _of_database(
    url: str, settings: GatewaySettings, tasks: Tasks, metrics: GatewayMetrics, sibling: Sibling | None
) -> tuple[Keyring, Quota, Budgets]:
    """The keys of management's database, their limits, and the budgets there.

    Raises :class:`process.settings.WrongSettings` for a database that cannot be one.
    """
    # They bring libraries along that a gateway without a database has no use for: 22 MB, 0.2 s.
    from gateway.keys.budgets import Budgets
    from gateway.keys.keyring import Keyring
    from gateway.keys.quota import Quota
    from store.database import UnusableDatabase

    try:
        stored = Keyring(url, metrics.registry, stale_s=settings.keys_stale_s)
    except UnusableDatabase as error:
        raise WrongSettings([f"DATABASE_URL: {error}."]) from None
    quota = Quota(settings.limits_storage_url.get_secret_value(), tasks, metrics.registry, sibling)
    budgets = Budgets(
        stored,
        read_prices(settings.prices_file) if settings.prices_file else PriceList(),
        tasks,
        metrics.registry,
        answer_tokens=settings.budget_answer_tokens,
        required=settings.budgets,
    )
    return stored, quota, budgets


def _aimodels(settings: GatewaySettings, names: ModelNames, models: Models, queue: RequestQueue) -> AIModels:
    """What declares the cluster's models, once it runs."""
    from gateway.models.aimodels import AIModels, created  # its HTTP client is not needed outside a cluster
    from process.cluster import Cluster

    def declare(found: list[AIModel]) -> None:
        for clash in names.declare(model.declared for model in found):
            log.warning("A name of an AIModel is taken.", action="aimodel_clash", why=clash)
        for name in models.declare(created(found), asyncio.get_running_loop().time()):
            log.info("A model is declared.", action="model_known", model=name)
            queue.prepare(name)

    models.is_complete = False
    return AIModels(Cluster(settings.api_server, settings.service_account_dir), settings.aimodels_namespace, declare)


async def _close(
    tasks: Tasks,
    orders: Orders,
    presence: PresenceListener,
    neighbours: Neighbours,
    queue: RequestQueue,
    lines: Lines,
) -> None:
    await orders.aclose()
    await presence.aclose()
    await neighbours.aclose()
    await queue.aclose()
    await lines.aclose()
    await tasks.aclose()
