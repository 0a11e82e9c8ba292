"""The brokers that keep the contract."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pytest

from broker.memory import MemoryBroker, MemoryServer
from broker.pulsar import PulsarBroker, PulsarLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.interface import Broker
    from tests.pulsar_server import PulsarServer

SENDS_MAX = 8
"""How many sends a connection of :meth:`Place.narrow` takes before it refuses."""


class Place(ABC):
    """A broker to connect to, any number of times."""

    def __init__(self) -> None:
        self._connections: list[Broker] = []
        self._run = uuid.uuid4().hex[:12]

    def topic(self, name: str = "topic") -> str:
        """A persistent topic that no other test uses."""
        return f"persistent://public/default/{name}-{self._run}"

    def passing_topic(self, name: str = "topic") -> str:
        """A non-persistent topic that no other test uses."""
        return f"non-persistent://public/default/{name}-{self._run}"

    def unconnected(self) -> Broker:
        """A further connection that was not asked to connect."""
        return self._kept(self._open())

    async def connect(self) -> Broker:
        """A further connection."""
        connection = self._kept(self._open())
        await connection.connect()
        return connection

    async def narrow(self) -> Broker:
        """A connection that refuses sends above :data:`SENDS_MAX`."""
        connection = self._kept(self._open_narrow())
        await connection.connect()
        return connection

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            await connection.aclose()

    def _kept(self, connection: Broker) -> Broker:
        self._connections.append(connection)
        return connection

    @abstractmethod
    def unload(self, topic: str) -> None:
        """Have the broker redeliver what is held on a topic, while its holders live."""

    @abstractmethod
    def _open(self) -> Broker: ...

    @abstractmethod
    def _open_narrow(self) -> Broker: ...


class _Memory(Place):
    def __init__(self) -> None:
        super().__init__()
        self._server = MemoryServer()

    def unload(self, topic: str) -> None:
        self._server.unload(topic)

    def _open(self) -> Broker:
        return MemoryBroker(self._server)

    def _open_narrow(self) -> Broker:
        self._server = MemoryServer(messages_max=SENDS_MAX)
        return MemoryBroker(self._server)


class _Pulsar(Place):
    def __init__(self, server: PulsarServer) -> None:
        super().__init__()
        self._server = server

    def unload(self, topic: str) -> None:
        self._server.unload(topic)

    def _open(self) -> Broker:
        return PulsarBroker(self._server.url)

    def _open_narrow(self) -> Broker:
        return PulsarBroker(self._server.url, limits=PulsarLimits(pending_sends_max=SENDS_MAX))


@pytest.fixture(params=["memory", pytest.param("pulsar", marks=pytest.mark.pulsar)])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A place that makes connections, once for each broker that ships."""
    place = _Memory() if request.param == "memory" else _Pulsar(request.getfixturevalue("pulsar_server"))
    yield place
    await place.aclose()
