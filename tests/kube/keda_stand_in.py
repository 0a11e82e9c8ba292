"""KEDA's place in a cluster without it: scales by what the ScaledObject says, by the formula of KEDA and of the
HorizontalPodAutoscaler that it makes."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from tests.kube.api_server import ApiServer

POLL_S = 0.2
"""KEDA's pollingInterval is whole seconds; the test need not wait for them."""
MERGE = "application/merge-patch+json"


class KedaStandIn:
    """Scales the one ScaledObject of a namespace."""

    def __init__(self, server: ApiServer, namespace: str, name: str) -> None:
        self._server = server
        self._scaled = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects/{name}"
        self._deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._idle_since: float | None = None
        self._wished: list[tuple[float, int]] = []
        self.said: list[int] = []
        """Each number of nodes that was asked for, one after the other."""

    async def __aenter__(self) -> KedaStandIn:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                await self._look(session)
                await asyncio.sleep(POLL_S)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        spec = (await asyncio.to_thread(self._server.ask, "GET", self._scaled))["spec"]
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "pulsar"
        backlog = await _backlog(session, trigger["metadata"])
        scale = f"{self._deployments}/{spec['scaleTargetRef']['name']}/scale"
        now = (await asyncio.to_thread(self._server.ask, "GET", scale))["spec"].get("replicas", 0)
        wished = self._wish(spec, trigger["metadata"], backlog, now)
        if wished != now:
            self.said.append(wished)
            await asyncio.to_thread(self._server.ask, "PATCH", scale, {"spec": {"replicas": wished}}, content=MERGE)

    def _wish(self, spec: dict[str, Any], metadata: dict[str, str], backlog: int, now: int) -> int:
        time = asyncio.get_running_loop().time()
        least, most = int(spec["minReplicaCount"]), int(spec["maxReplicaCount"])
        active = backlog > int(metadata["activationMsgBacklogThreshold"])
        if active:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time
        if now == 0:
            return max(1, least) if active else 0
        if self._idle_since is not None and time - self._idle_since >= spec["cooldownPeriod"]:
            return least
        wished = max(1, least, min(most, math.ceil(backlog / int(metadata["msgBacklogThreshold"]))))
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        window_s = behavior["scaleDown"]["stabilizationWindowSeconds"]
        self._wished = [(at, each) for at, each in [*self._wished, (time, wished)] if time - at <= window_s]
        stable = max(each for _, each in self._wished)
        return wished if wished > now else min(int(now), stable)


async def _backlog(session: aiohttp.ClientSession, metadata: dict[str, str]) -> int:
    """As KEDA's pulsar scaler reads it: a missing topic or subscription is an error."""
    url = f"{metadata['adminURL']}/admin/v2/persistent/{metadata['topic'].removeprefix('persistent://')}/stats"
    async with session.get(url) as answer:
        assert answer.status == 200, f"KEDA would see status {answer.status}"
        stats = await answer.json()
    return int(stats["subscriptions"][metadata["subscription"]]["msgBacklog"])
