"""A node from start to end: connect, announce, work, drain, leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from broker.interface import Kind
from broker.reaching import Reach, Stopped, keep
from process.http import bind, health_server
from process.identity import new_incarnation, now_ms
from process.lifecycle import Tasks
from process.logging import Log
from process.settings import SECONDS_MAX
from process.traces import open_traces
from wire import topics as names
from workernode.dead_letters import DeadLetters
from workernode.engine import EngineUnusable
from workernode.heartbeat import Heartbeat
from workernode.identity import NodeIdentity
from workernode.metrics import NodeMetrics
from workernode.node import Node
from workernode.record import Recorder
from workernode.remote.allowance import Limits
from workernode.remote.credential import credential_of
from workernode.remote.dialects.dialect import dialect_named
from workernode.remote.key import Key
from workernode.remote.pace import CredentialPace
from workernode.remote.peers import hear_peers
from workernode.static.engine import StaticEngine
from workernode.uplinks import Uplinks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker.interface import Broker
    from process.otel import Traces
    from workernode.aimodel import AIModelEntry
    from workernode.engine import Engine
    from workernode.local.engine import LocalEngine
    from workernode.settings import NodeSettings

log = Log("node")

ENGINE_AGAIN_S = 10.0
EVENTS_GATHER_MS = 20
CONTROL_WAITING_MAX = 20_000
"""Messages that may wait in this process: gateways say lost words again, but that costs more than waiting."""


async def run(
    settings: NodeSettings, broker: Broker, stop: asyncio.Event, *, ready: Callable[[], None] | None = None
) -> None:
    """Serve until ``stop`` is set, then drain and leave. ``ready`` is called once the node takes work.

    Raises :class:`process.lifecycle.PortInUse`.
    """
    identity = NodeIdentity(
        new_incarnation("node"), settings.node_name, settings.model, settings.node_type, socket.gethostname()
    )
    metrics = NodeMetrics(_first_slots(settings))
    metrics.describe(identity)
    reach = Reach(lambda why: log.error(why, action="broker_unreachable"), stop)
    state = _Readiness(broker)
    listener = bind(settings.node_host, settings.node_port, "NODE_PORT")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(health_server(listener, metrics.registry, state.report))
        pace = local = None
        if settings.node_type == "remote":
            engine, pace = _remote(settings, identity)
            metrics.follow(pace)
        elif settings.node_type == "local":
            engine = local = _local(settings, identity)
        else:
            engine = _engine(settings)
        stack.push_async_callback(engine.aclose)
        if (traces := open_traces(settings, "node", identity.incarnation)) is not None:
            stack.push_async_callback(traces.aclose)
        with contextlib.suppress(Stopped):
            await reach(broker.connect)
            parts = _Parts(identity, engine, pace, local, metrics, state, ready, traces)
            await _serve(settings, broker, reach, stop, parts)


@dataclass(frozen=True)
class _Parts:
    """What :func:`run` has put together for :func:`_serve`."""

    identity: NodeIdentity
    engine: Engine
    pace: CredentialPace | None
    local: LocalEngine | None
    metrics: NodeMetrics
    state: _Readiness
    ready: Callable[[], None] | None
    traces: Traces | None


class _Readiness:
    """What ``/readyz`` tells: rate limits and quota are states, not unreadiness. An engine that does not start is: who
    replaces nodes one by one has to stop there."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.node: Node | None = None
        self.heartbeat: Heartbeat | None = None

    def report(self) -> tuple[bool, dict[str, Any]]:
        if self.node is None or self.heartbeat is None:
            return False, {"ready": False, "why": "The broker was not reached yet."}
        body: dict[str, Any] = {"state": self.heartbeat.state, "slots": self.node.slots}
        body["busy"], body["parked"] = self.node.load()
        if self.heartbeat.sentence:
            body["sentence"] = self.heartbeat.sentence
        why = None
        if not self._broker.connected:
            why = "The connection to the broker is lost."
        elif self.heartbeat.state in ("draining", "stopped"):
            why = f"The node is {self.heartbeat.state}."
        elif not self.node.has_engine:
            why = "The node's engine is not ready."
        return why is None, {"ready": why is None, **({"why": why} if why else {}), **body}


async def _serve(settings: NodeSettings, broker: Broker, reach: Reach, stop: asyncio.Event, parts: _Parts) -> None:
    topics, identity, engine = settings.topics, parts.identity, parts.engine
    # The ledger's subscription before the first event, so that bills wait for a management that never ran.
    await reach(
        lambda: keep(broker, topics.results, names.LEDGER, lambda why: log.info(why, action="subscription_unseen"))
    )
    results = await reach(lambda: broker.producer(topics.results, gather_ms=EVENTS_GATHER_MS))
    recorder = Recorder(identity, engine, results)
    uplinks = Uplinks(broker, topics, identity.incarnation, resent=parts.metrics.resent.inc)
    pace = parts.pace
    node = Node(
        identity,
        engine,
        uplinks,
        recorder,
        parts.metrics,
        DeadLetters(
            broker, topics.dead_letters(identity.model), identity.incarnation, buried=parts.metrics.dead_letters.inc
        ),
        slots=_first_slots(settings),
        parked_max=settings.parked_max,
        pace=pace,
        traces=parts.traces,
    )
    heartbeat = Heartbeat(
        identity,
        engine,
        _first_slots(settings),
        node.load,
        learnt=pace.learnt if pace is not None else None,
        running=node.running,
    )
    presence = None if pace is None else await reach(lambda: hear_peers(broker, topics, identity.incarnation, pace))
    control = await reach(
        lambda: broker.listen(topics.control(identity.incarnation), node.hear, waiting_max=CONTROL_WAITING_MAX)
    )
    background = Tasks(log)
    beating = background.keep(partial(heartbeat.run, broker, topics), "heartbeat")
    entry = _entry(settings, heartbeat) if settings.aimodel_name else None
    if entry is not None:
        background.keep(entry.run, "AIModel's status")
    parts.state.node, parts.state.heartbeat = node, heartbeat
    parts.metrics.watch(node.load, lambda: heartbeat.state)
    if (local := parts.local) is not None:
        from workernode.local.reporter import Reporter
        from workernode.local.slot_keeper import SlotKeeper

        local.report = Reporter(node, heartbeat, recorder, background).hear
    try:
        if await _engine_started(engine, heartbeat, recorder, (stop, node.drain_asked)):
            requests = await reach(
                lambda: broker.consumer(
                    topics.requests(identity.model), names.WORKERS, Kind.SHARED, prefetch=0, from_earliest=True
                )
            )
            node.start(requests, heartbeat)
            if local is not None:
                background.start(SlotKeeper(local, node, parts.metrics.registry, settings).run(), "slots")
            background.start(recorder.publish(recorder.node_event("node.started", "The node takes work.")), "started")
            log.info(
                "The node takes work.",
                action="ready",
                model=identity.model,
                type=identity.type,
                node=identity.incarnation,
            )
            if parts.ready is not None:
                parts.ready()
            await _either(stop, node.drain_asked)
            heartbeat.become("draining", "The node finishes its work and leaves.")
            log.info("The node finishes its work and leaves.", action="draining", busy=node.busy)
            await node.drain(settings.drain_s)
            await uplinks.flush(1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await recorder.publish(recorder.node_event("node.stopped", "The node has left in order."))
            await requests.aclose()
    finally:
        heartbeat.state = "stopped"
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await node.aclose()
        await background.aclose()
        if entry is not None:
            await entry.aclose()
        await uplinks.aclose()
        await control.aclose()
        if presence is not None:
            await presence.aclose()
        await results.aclose()
        log.info("The node has left.", action="stopped", node=identity.incarnation)


async def _engine_started(
    engine: Engine, heartbeat: Heartbeat, recorder: Recorder, ends: tuple[asyncio.Event, ...]
) -> bool:
    """Start the engine; where it cannot, say why once, and try again until it shall end."""
    said = ""
    while not any(end.is_set() for end in ends):
        try:
            return await _unless(ends, engine.start())
        except EngineUnusable as error:
            if str(error) != said:
                said = str(error)
                log.error(said, action="engine_unusable")
                heartbeat.become("misconfigured", said)
                await recorder.publish(recorder.node_event("node.misconfigured", said))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENGINE_AGAIN_S):
                await _either(*ends)
    return False


async def _unless(ends: tuple[asyncio.Event, ...], work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work was done before any of ``ends``; a model may take minutes to load."""
    working = asyncio.ensure_future(work)
    ending = asyncio.ensure_future(_either(*ends))
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _entry(settings: NodeSettings, heartbeat: Heartbeat) -> AIModelEntry:
    # Nothing of it is needed outside a cluster.
    from process.cluster import Cluster
    from workernode.aimodel import AIModelEntry

    cluster = Cluster(settings.api_server, settings.service_account_dir)
    return AIModelEntry(cluster, settings.aimodel_namespace, settings.aimodel_name, settings.node_name, heartbeat)


def _first_slots(settings: NodeSettings) -> int:
    """A local model's are found from one upwards: a permit that is out cannot be taken back."""
    return 1 if settings.node_type == "local" else settings.max_process_num


def _engine(settings: NodeSettings) -> Engine:
    """The engine of a fixed answer."""
    return StaticEngine(settings.static_answer, endpoints=settings.served, context_length=settings.context_length)


def _local(settings: NodeSettings, identity: NodeIdentity) -> LocalEngine:
    """The engine of a model on this machine."""
    # Other nodes do without what starts and watches one.
    from workernode.local.engine import LocalEngine
    from workernode.local.presets import PRESETS

    dialect = settings.dialect or PRESETS[settings.local_engine].dialect
    # Our own server says nothing while a call of a tool is being written, and its health tells whether it hangs.
    ours = settings.local_engine == "transformers"
    return LocalEngine(settings, lambda url, key: _relay(settings, identity, url, lambda: key, dialect, patient=ours))


def _remote(settings: NodeSettings, identity: NodeIdentity) -> tuple[Engine, CredentialPace]:
    """The engine of a provider, and how fast it may be asked."""
    given = settings.api_key.get_secret_value() if settings.api_key else None
    key = Key(settings.api_key_file, given)
    host = urlsplit(settings.api_url).netloc.lower()
    pace = CredentialPace(
        lambda: credential_of(host, key()),
        identity.incarnation,
        Limits(settings.rpm_max, settings.tpm_max, settings.concurrency_max),
        clock=asyncio.get_running_loop().time,
        unix_ms=now_ms,
    )
    proxy = settings.api_proxy.get_secret_value() if settings.api_proxy else None
    return _relay(settings, identity, settings.api_url, key, settings.dialect, pace, proxy=proxy), pace


def _relay(
    settings: NodeSettings,
    identity: NodeIdentity,
    api_url: str,
    key: Callable[[], str | None],
    dialect: str,
    pace: CredentialPace | None = None,
    *,
    proxy: str | None = None,
    patient: bool = False,
) -> Engine:
    """Relays to that address: a provider's, or that of our own child. ``patient``: its silence says nothing."""
    from workernode.remote.engine import RemoteEngine  # its HTTP client is not needed otherwise

    return RemoteEngine(
        api_url=api_url,
        api_key=key,
        upstream_model=settings.upstream_model or settings.model,
        slots=settings.max_process_num,
        node=identity.incarnation,
        proxy=proxy,
        dialect=dialect_named(dialect),
        tokenizer=settings.tokenizer,
        endpoints=settings.served,
        context_length=settings.context_length,
        connect_timeout_s=settings.connect_timeout_s,
        first_token_timeout_s=SECONDS_MAX if patient else settings.first_token_timeout_s,
        between_tokens_timeout_s=SECONDS_MAX if patient else settings.between_tokens_timeout_s,
        answer_bytes_max=settings.answer_bytes_max,
        pace=pace,
    )
