"""What the controller makes of an API server's answers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from controller.cluster import Cluster, ClusterError
from controller.kinds import SCALED_OBJECT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@asynccontextmanager
async def server(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    """An API server that answers so; its address."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_keda_is_not_missed_at_an_api_server_that_starts() -> None:
    """Its list of kinds is not complete for a moment after it began to answer; objects are refused till then."""

    def starting(request: web.Request) -> web.Response:
        return web.json_response({"message": "not found"}, status=404 if request.path == SCALED_OBJECT.api else 503)

    async with server(starting) as url:
        cluster = Cluster(ApiClient(Configuration(host=url)))
        try:
            with pytest.raises(ClusterError) as refused:
                await cluster.knows(SCALED_OBJECT, "ns")
            assert refused.value.status == 503
        finally:
            await cluster.aclose()
