"""While the broker is away requests get 503 at once, readiness tells why, and it recovers by itself."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from broker.memory import MemoryBroker, MemoryServer
from broker.pulsar import PulsarBroker
from tests.in_process import InProcessFleet
from tests.integration.test_main_job import asked, known
from tests.raw_http import exchange, get, post
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITHIN_S = 4.0
SILENT_WITHIN_S = 12.0
"""That a connection which stays open is dead has to be found out."""


class Outage:
    """A fleet whose broker can be taken away."""

    within_s = WITHIN_S

    def __init__(self) -> None:
        self._server = MemoryServer()
        self.fleet = InProcessFleet(lambda: MemoryBroker(self._server), {})

    async def begin(self) -> None:
        """The broker is away."""
        self._server.set_available(False)

    async def end(self) -> None:
        """It is back."""
        self._server.set_available(True)


class PulsarOutage(Outage):
    """The network between the roles and Pulsar breaks: with resets and a closed port, or silently."""

    def __init__(self, proxy: TcpProxy, *, silent: bool) -> None:
        run = uuid.uuid4().hex[:8]
        common = {"MODEL_NAME": f"model-{run}", "RES_TOPIC_NAME": f"results-{run}"}
        self.fleet = InProcessFleet(lambda: PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}"), common)
        self.within_s = SILENT_WITHIN_S if silent else WITHIN_S
        self._proxy, self._silent = proxy, silent

    async def begin(self) -> None:
        if self._silent:
            self._proxy.blackhole()
        else:
            self._proxy.close()
            self._proxy.reset()

    async def end(self) -> None:
        if self._silent:
            self._proxy.restore()
        else:
            await self._proxy.listen()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("gone", marks=pytest.mark.pulsar),
        pytest.param("silent", marks=pytest.mark.pulsar),
    ]
)
async def outage(request: pytest.FixtureRequest) -> AsyncIterator[Outage]:
    if request.param == "memory":
        made = Outage()
        yield made
        await made.fleet.aclose()
        return
    server = request.getfixturevalue("pulsar_server")
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        made = PulsarOutage(proxy, silent=request.param == "silent")
        yield made
        await made.fleet.aclose()


async def test_while_the_broker_is_away_requests_get_503_and_readiness_tells_why(outage: Outage) -> None:
    fleet = outage.fleet
    await fleet.node()
    gateway = await fleet.gateway()
    await known(gateway, fleet.model)
    request = post(asked(fleet.model, "hi"))
    assert (await exchange(gateway.port, request)).status == 200

    await outage.begin()

    async def is_unready() -> bool:
        return (await exchange(gateway.port, get("/readyz"))).status == 503

    began = time.monotonic()
    answer = await exchange(gateway.port, request)
    assert time.monotonic() - began < outage.within_s
    assert (answer.status, answer.error["code"]) == (503, "queue_unavailable")
    assert answer.headers["x-should-retry"] == "true"
    await until(is_unready)
    assert "broker" in json.loads((await exchange(gateway.port, get("/readyz"))).body)["why"]
    assert (await exchange(gateway.port, get("/livez"))).status == 200

    await outage.end()

    async def serves() -> bool:
        return (await exchange(gateway.port, request)).status == 200

    assert await until(serves, within_s=20)
    assert not await is_unready()
