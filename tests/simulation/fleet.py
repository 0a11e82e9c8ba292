"""The fleet of one episode: gateways, nodes and management as simulated processes, one life after the other."""

from __future__ import annotations

import asyncio
import functools
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import gateway.role
import management.role
import workernode.role
from broker.interface import BrokerError
from gateway.requests.conversations import Conversations
from gateway.settings import GatewaySettings
from management.settings import ManagementSettings
from process.settings import load
from tests.simulation.counting_house import Books, Clerk
from tests.simulation.life import Life
from tests.simulation.provider import OracleEngine, Provider
from tests.simulation.rough_broker import RoughBroker
from tests.simulation.sea import Sea
from tests.simulation.trace import Trace
from tests.waiting import until
from wire.topics import LEDGER, WORKERS, Topics
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp

    from broker.memory_server import Subscription
    from management.ledger.journal import Entry, Written
    from tests.simulation.connection import Connection
    from tests.simulation.virtual_loop import VirtualLoop
    from tests.simulation.weather import Weather
    from workernode.engine import Engine
    from workernode.node import Node

Role = Literal["gateway", "node", "management"]

MODEL = "model"
KEY = "sk-simulated-0123456789abcdef"
SLOTS = 3
PARKED_MAX = 2
SKEWED = 0.3
SKEW_MS = 4_000
"""Wall clocks differ by up to so much, either way."""
KNOWN_S = 20.0


class Place:
    """Where one life follows the other."""

    def __init__(self, role: Role, number: int, env: dict[str, str]) -> None:
        self.role, self.name, self.env = role, f"{role}-{number}", env
        self.lives: list[Life] = []
        self.stop = asyncio.Event()
        """Ends the latest life in order, as a signal would."""

    @property
    def now(self) -> Life:
        """The latest life."""
        return self.lives[-1]


class Fleet:
    """What :mod:`tests.simulation.seams` calls the stage."""

    def __init__(self, loop: VirtualLoop, seed: int, weather: Weather, *, continues: bool, traced: bool) -> None:
        self.loop = loop
        self.ids = Random(f"{seed} ids")
        self.random = Random(f"{seed} fleet")
        self.trace = Trace(loop, wanted=traced)
        self.sea = Sea(loop, Random(f"{seed} sea"), weather, self.trace)
        self.books = Books()
        self.clerk = Clerk(self.books, Random(f"{seed} clerk"), self.trace)
        self.provider = Provider(self.trace, Random(f"{seed} provider"), continues=continues)
        self.places: list[Place] = []
        self.topics = Topics()
        self.apps: dict[Life, ASGIApp] = {}
        """Gateways that take connections."""
        self._requests: dict[Life, list[asyncio.Task[None]]] = {}
        self._conversations: dict[Life, Conversations] = {}
        self._nodes: dict[Life, Node] = {}
        self._connections: dict[Life, RoughBroker] = {}

    # What the seams ask for.

    def opened(self, life: Life, app: ASGIApp | None) -> None:
        if app is None:
            self.apps.pop(life, None)
        else:
            self.apps[life] = app

    async def finished(self, life: Life, within_s: float) -> None:
        requests = [task for task in self._requests.get(life, []) if not task.done()]
        if requests:
            await asyncio.wait(requests, timeout=within_s)

    def owns(self, life: Life, part: Conversations | Node) -> None:
        if isinstance(part, Conversations):
            self._conversations[life] = part
        else:
            self._nodes[life] = part
            self.sea.overheard.lives[_incarnation(part)] = life

    def engine(self, life: Life) -> Engine:
        return OracleEngine(self.provider, life)

    async def commit(self, life: Life, entries: Sequence[Entry]) -> Written:
        return await self.clerk.write(life, entries)

    # What episodes do.

    def add(self, role: Role, **env: str) -> Place:
        """A place for a process, with these settings beside the usual ones; nothing is started yet."""
        place = Place(role, sum(each.role == role for each in self.places), env)
        self.places.append(place)
        return place

    def start(self, place: Place, crash: tuple[str, int] | None = None) -> Life:
        """Begin the next life."""
        skewed = self.random.random() < SKEWED
        skew_ms = self.random.randint(-SKEW_MS, SKEW_MS) if skewed else 0
        life = Life(self.loop, place.role, f"{place.name}.{len(place.lives)}", skew_ms)
        life.crash = crash
        life.on_death.append(lambda: self._died(life))
        place.lives.append(life)
        place.stop = asyncio.Event()
        self.trace.add(life.name, f"starts, its clock {skew_ms} ms ahead")
        broker = self._connections[life] = RoughBroker(self.sea, life)
        life.start(self._run(place, life, broker, place.stop), "role")
        return life

    async def known(self) -> None:
        """Wait until there are gateways that take requests for the model."""
        await until(lambda: len(self.serving()) == len(self.of("gateway")), within_s=KNOWN_S, every_s=0.1)

    def of(self, role: Role) -> list[Place]:
        """The places of a role."""
        return [place for place in self.places if place.role == role]

    def lives(self) -> list[Life]:
        """Everything that was ever started."""
        return [life for place in self.places for life in place.lives]

    def connect(self, connection: Connection) -> bool:
        """Hand a client's request to its gateway, if that takes any."""
        app = self.apps.get(connection.life)
        if app is None:
            return False
        self._requests.setdefault(connection.life, []).append(connection.begin(app))
        return True

    def serving(self) -> list[Life]:
        """The gateways that can be asked."""
        return [life for life in self.apps if life.alive]

    @property
    def workers(self) -> Subscription:
        """The requests, as the broker sees them."""
        return self.sea.server.topic(self.topics.requests(MODEL)).subscription(WORKERS)

    def passing_topics(self) -> list[str]:
        """Links and controls of those who live."""
        conversations = [each.lines for life, each in self._conversations.items() if life.alive]
        links = [self.topics.link(lines._gateway) for lines in conversations if lines is not None]
        nodes = [each for life, each in self._nodes.items() if life.alive]
        return [*links, *(self.topics.control(_incarnation(node)) for node in nodes)]

    def held(self, life: Life) -> int:
        """How many deliveries it has and has not acknowledged. After an outage others may have them too: then how many
        it works on."""
        node = self._nodes.get(life)
        return max(self._connections[life].held(), node.busy if node is not None else 0)

    def connection(self, life: Life) -> RoughBroker:
        """Its connection to the broker."""
        return self._connections[life]

    def under_way(self) -> list[str]:
        """What is not settled yet, in sentences."""
        ledger = self.sea.server.topic(self.topics.results).subscription(LEDGER)
        left = [
            f"{each.name}: backlog={each.backlog} unacked={each.held}"
            for each in (self.workers, ledger)
            if each.backlog or each.held
        ]
        for life in self.lives():
            if not life.alive:
                continue
            if life.frozen:
                left.append(f"{life.name} is frozen")
            if (unanswered := self._connections[life].unanswered()) > 0:
                left.append(f"{life.name} waits for {unanswered} receipts")
            if (conversations := self._conversations.get(life)) is not None and len(conversations):
                left.append(f"{life.name} owns {conversations!r}")
            if (node := self._nodes.get(life)) is not None and node.load() != (0, 0):
                left.append(f"{life.name} is {node!r}")
        nodes = [node for life, node in self._nodes.items() if life.alive]
        # Whose provider is in trouble keeps some back.
        well = all(node._intake.gate.is_open for node in nodes)
        if not left and well and self.workers.permits != SLOTS * len(nodes):
            left.append(f"{self.workers.permits} permits are out for {len(nodes)} nodes with {SLOTS} slots each")
        return left

    async def close(self) -> None:
        """End the world: nothing reaches anybody any more, and all tasks are let run to their end."""
        self.trace.wanted = False
        for connection in list(self._connections.values()):
            connection.up = False
        for life in self.lives():
            life.bury()
        me = asyncio.current_task()
        while tasks := [task for task in self.loop.tasks if task is not me and not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)

    async def _run(self, place: Place, life: Life, broker: RoughBroker, stop: asyncio.Event) -> None:
        try:
            await _RUN[place.role](_settings(place), broker, stop)
        except BrokerError as error:
            # As a process does whose broker goes while it starts: it ends with an error, and is started again.
            self.trace.add(life.name, f"gives up: {error}")
            life.die()
            return
        except Exception as error:
            self.loop.call_exception_handler({"message": f"{life.name} ended", "exception": error})
            life.die()
            return
        await broker.aclose()
        self.trace.add(life.name, "has ended in order")
        life.end()

    def _died(self, life: Life) -> None:
        self.trace.add(life.name, "dies")
        self.apps.pop(life, None)


def _incarnation(node: Node) -> str:
    return node._identity.incarnation


def _settings(place: Place) -> Any:
    return _loaded(place.role, (("NODE_NAME", place.name), *place.env.items()))


@functools.cache
def _loaded(role: Role, env: tuple[tuple[str, str], ...]) -> Any:
    return load(_SETTINGS[role], {**_ENV[role], "PULSAR_URL": "memory:", **dict(env)})


_RUN: dict[Role, Any] = {
    "gateway": gateway.role.run,
    "node": workernode.role.run,
    "management": management.role.run,
}
_SETTINGS: dict[Role, Any] = {
    "gateway": GatewaySettings,
    "node": NodeSettings,
    "management": ManagementSettings,
}
_ENV: dict[Role, dict[str, str]] = {
    "gateway": {"API_KEYS": f"simulated:{KEY}", "BROKER_WAIT_S": "2"},
    "node": {"MODEL_NAME": MODEL, "MAX_PROCESS_NUM": str(SLOTS), "PARKED_MAX": str(PARKED_MAX)},
    "management": {"DATABASE_URL": "sqlite+aiosqlite:///nowhere.db"},
}
