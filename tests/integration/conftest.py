"""A fleet on each broker that ships."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from broker.memory import MemoryBroker, MemoryServer
from broker.pulsar import PulsarBroker
from tests.in_process import InProcessFleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=["memory", pytest.param("pulsar", marks=pytest.mark.pulsar)])
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    """Roles to start, on the memory broker and on a real Pulsar. Their topics are this test's own."""
    run = uuid.uuid4().hex[:8]
    common = {"RES_TOPIC_NAME": f"results-{run}", "MODEL_NAME": f"model-{run}"}
    if request.param == "memory":
        server = MemoryServer()
        started = InProcessFleet(lambda: MemoryBroker(server), common)
    else:
        url = request.getfixturevalue("pulsar_url")
        started = InProcessFleet(lambda: PulsarBroker(url), common)
    yield started
    await started.aclose()
