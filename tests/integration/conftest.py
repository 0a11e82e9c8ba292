"""A fleet on each broker that ships."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from broker.memory import MemoryBroker, MemoryServer
from broker.pulsar import PulsarBroker
from tests.in_process import InProcessFleet
from tests.pulsar_peer import PulsarPeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from broker.interface import Broker

BROKERS = ("memory", pytest.param("pulsar", marks=pytest.mark.pulsar))


def fleet_on(
    request: pytest.FixtureRequest, over: Callable[[Broker], Broker] = lambda broker: broker, **common: str
) -> InProcessFleet:
    """Roles to start on the broker that a fixture's parameter names. Their topics are their own."""
    run = uuid.uuid4().hex[:8]
    common = {"RES_TOPIC_NAME": f"results-{run}", "MODEL_NAME": f"model-{run}", **common}
    if request.param == "memory":
        server = MemoryServer()
        return InProcessFleet(lambda: over(MemoryBroker(server)), common)
    url = request.getfixturevalue("pulsar_server").url
    return InProcessFleet(lambda: over(PulsarBroker(url)), common)


@pytest.fixture(params=BROKERS)
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    """One for each test, on the memory broker and on a real Pulsar."""
    started = fleet_on(request)
    yield started
    await started.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BROKERS)
async def lasting_fleet(request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    """One for all tests of a module."""
    started = fleet_on(request)
    yield started
    await started.aclose()


@pytest.fixture
async def peer() -> AsyncIterator[PulsarPeer]:
    """Something that speaks as a broker does, and says what a test wants."""
    async with PulsarPeer() as peer:
        yield peer
