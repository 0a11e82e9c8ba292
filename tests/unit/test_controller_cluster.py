"""What the controller makes of an API server's answers."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from controller.cluster import Cluster, ClusterError
from controller.kinds import AIMODEL, SCALED_OBJECT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


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


def kubeconfig(path: Path, url: str, user: dict[str, str]) -> Path:
    one = {
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "it", **one}))
    return path


async def test_a_kubeconfigs_token_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    token, good, asked = tmp_path / "token", ["first"], []

    def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["authorization"])
        if asked[-1] != f"Bearer {good[0]}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    token.write_text("first")
    async with server(answer) as url:
        cluster = await Cluster.connect(kubeconfig(tmp_path / "config", url, {"tokenFile": str(token)}))
        try:
            assert await cluster.all(AIMODEL) == []
            good[0] = "second"
            with pytest.raises(ClusterError, match="Unauthorized"):
                await cluster.all(AIMODEL)
            token.write_text("second")
            assert await cluster.all(AIMODEL) == []
            assert asked == [f"Bearer {each}" for each in ("first", "first", "first", "second")]
            good[0] = "third"
            token.unlink()
            with pytest.raises(ClusterError, match="The token is refused, and the kubeconfig has no other") as refused:
                await cluster.all(AIMODEL)
            assert refused.value.status == 401
        finally:
            await cluster.aclose()


@pytest.mark.parametrize("text", ["", "a: [", "\0", "[]", "apiVersion: v1"])
async def test_a_kubeconfig_that_is_none_is_told_as_such(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ClusterError, match="There is no way to a cluster"):
        await Cluster.connect(path)


async def test_a_list_of_several_pages_is_read_to_its_end() -> None:
    asked = []

    def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("continue"))
        page = len(asked)
        metadata = {"resourceVersion": f"{page}"} | ({"continue": f"after-{page}"} if page < 3 else {})
        return web.json_response({"items": [{"page": page}], "metadata": metadata})

    async with server(answer) as url:
        cluster = Cluster(ApiClient(Configuration(host=url)))
        try:
            assert await cluster.listing(AIMODEL) == ([{"page": 1}, {"page": 2}, {"page": 3}], "3")
            assert asked == [None, "after-1", "after-2"]
        finally:
            await cluster.aclose()


@pytest.mark.parametrize(("status", "raises"), [(404, False), (422, False), (403, True)])
async def test_a_patch_of_what_is_gone_or_has_changed_is_none(status: int, *, raises: bool) -> None:
    async with server(lambda _: web.json_response({"message": "No."}, status=status)) as url:
        cluster = Cluster(ApiClient(Configuration(host=url)))
        try:
            with pytest.raises(ClusterError) if raises else nullcontext():
                await cluster.patch(AIMODEL, "ns", "m", [])
        finally:
            await cluster.aclose()


LARGE = {"type": "MODIFIED", "object": {"status": {"nodes": [{"message": "x" * 1024}] * 200}}}
GONE = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}


@pytest.mark.parametrize(
    ("text", "heard", "status"),
    [
        (json.dumps(LARGE) + "\n" + json.dumps(GONE) + "\n", [("MODIFIED", LARGE["object"])], 410),
        (json.dumps(LARGE)[:-1], [], 0),
    ],
    ids=["too old", "broken off"],
)
async def test_a_watch_tells_large_objects_and_why_it_ended(text: str, heard: list[Any], status: int) -> None:
    async with server(lambda _: web.Response(text=text)) as url:
        cluster = Cluster(ApiClient(Configuration(host=url)))
        events = cluster.watch(AIMODEL, "1")
        try:
            assert [await anext(events) for _ in heard] == heard
            with pytest.raises(ClusterError) as ended:
                await anext(events)
            assert ended.value.status == status
        finally:
            await cluster.aclose()
