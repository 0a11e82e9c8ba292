"""A gateway that lists the AIModels of a real API server, with no more than deploy/k8s lets it do."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.kube.account import allow, mounted
from tests.kube.api_server import Refused
from tests.kube.manifests import one, overlay
from tests.kube.models import BASE, STATIC, resource
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import Running
    from tests.kube.api_server import ApiServer

pytestmark = pytest.mark.kube


@pytest.fixture
async def fleet(api_server: ApiServer, namespace: str, tmp_path: Path) -> AsyncIterator[InProcessFleet]:
    """Gateways of this namespace, on the memory broker."""
    allow(api_server, namespace, "gateway", one(overlay("minimal"), "Role", "workernode-gateway")["rules"])
    account = mounted(api_server, namespace, "gateway", tmp_path / "account")
    broker = MemoryServer()
    started = InProcessFleet(lambda: MemoryBroker(broker), {**account, "AIMODELS_NAMESPACE": namespace})
    yield started
    await started.aclose()


async def listed(gateway: Running) -> dict[str, Any]:
    """Every model of ``GET /v1/models``, by its id."""
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/v1/models") as response:
        return {each["id"]: each for each in (await response.json())["data"]}


async def ask(gateway: Running, model: str) -> tuple[int, Any]:
    """Status and answer of a chat."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body) as response,
    ):
        return response.status, await response.json()


async def test_a_declared_model_is_listed_waits_for_its_first_node_and_outlives_the_api_server(
    fleet: InProcessFleet, api_server: ApiServer, namespace: str
) -> None:
    path = f"{BASE}/{namespace}/aimodels"

    async def tell(method: str, what: str, body: object = None) -> Any:
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return await asyncio.to_thread(api_server.ask, method, what, body, content=content)

    spec = STATIC | {"model": "org/first", "aliases": ["one"], "ownedBy": "org", "contextLength": 4096}
    made = await tell("POST", path, resource("first", spec))
    gateway = await fleet.gateway()
    shown = await listed(gateway)
    assert shown.keys() == {"org/first", "one"}
    assert shown["org/first"]["owned_by"] == "org"
    assert shown["org/first"]["workernode"]["state"] == "waiting"
    assert shown["org/first"]["workernode"]["context_length"] == 4096
    made_at = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
    assert shown["org/first"]["created"] == made_at.timestamp()
    assert shown["one"]["workernode"]["alias_of"] == "org/first"

    waiting = asyncio.create_task(ask(gateway, "one"))
    async with aiohttp.ClientSession() as session:

        async def waits() -> bool:
            async with session.get(f"{gateway.url}/metrics") as response:
                return "gateway_requests_waiting 1.0" in await response.text()

        await until(waits)
    await fleet.node(MODEL_NAME="org/first")
    status, answer = await waiting
    assert (status, answer["model"]) == (200, "org/first")

    await tell("POST", path, resource("second", STATIC | {"model": "second"}))
    await until(lambda: _has(gateway, "second"))
    await tell("PATCH", f"{path}/second", {"spec": {"aliases": ["two"]}})
    await until(lambda: _has(gateway, "two"))

    await asyncio.to_thread(api_server.kill_server)
    assert (await listed(gateway)).keys() == {"org/first", "one", "second", "two"}
    assert (await ask(gateway, "one"))[0] == 200
    # One that starts now knows none, and does not say of any that there is no such model.
    late = await fleet.gateway()
    status, answer = await ask(late, "second")
    assert (status, answer["error"]["code"]) == (503, "model_unavailable")
    await asyncio.to_thread(api_server.start)
    await until(lambda: _has(late, "second"), within_s=30)

    await tell("DELETE", f"{path}/second")
    await until(lambda: _lacks(gateway, "two"), within_s=30)
    await until(lambda: _lacks(gateway, "second"), within_s=30)  # no node of it is there
    assert (await ask(gateway, "second"))[0] == 404


async def _has(gateway: Running, model: str) -> bool:
    return model in await listed(gateway)


async def _lacks(gateway: Running, model: str) -> bool:
    return model not in await listed(gateway)


def test_a_gateways_account_may_read_aimodels_and_nothing_else(api_server: ApiServer, namespace: str) -> None:
    allow(api_server, namespace, "gateway", one(overlay("minimal"), "Role", "workernode-gateway")["rules"])
    token = api_server.token_of(namespace, "gateway")
    models = f"{BASE}/{namespace}/aimodels"
    assert api_server.ask("GET", models, token=token)["items"] == []
    api_server.ask("POST", models, resource("it", STATIC))
    for method, path, body in (
        ("POST", models, resource("another", STATIC)),
        ("GET", f"{models}/it", None),
        ("PATCH", f"{models}/it", {"spec": {"slots": 1}}),
        ("PATCH", f"{models}/it/status", {"status": {"lastError": "No."}}),
        ("DELETE", f"{models}/it", None),
        ("GET", f"/api/v1/namespaces/{namespace}/secrets", None),
        ("GET", f"/api/v1/namespaces/{namespace}/pods", None),
        ("GET", f"{BASE}/default/aimodels", None),
    ):
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with pytest.raises(Refused, match="403"):
            api_server.ask(method, path, body, token=token, content=content)


def test_a_setups_account_may_make_secrets_and_read_none_but_the_signing_key(
    api_server: ApiServer, namespace: str
) -> None:
    allow(api_server, namespace, "setup", one(overlay("minimal"), "Role", "workernode-setup")["rules"])
    token = api_server.token_of(namespace, "setup")
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    for name in ("workernode-keys", "workernode-pulsar-signing"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        api_server.ask("POST", secrets, secret, token=token)
    api_server.ask("GET", f"{secrets}/workernode-pulsar-signing", token=token)
    for method, path in (
        ("GET", secrets),
        ("GET", f"{secrets}/workernode-keys"),
        ("DELETE", f"{secrets}/workernode-keys"),
    ):
        with pytest.raises(Refused, match="403"):
            api_server.ask(method, path, token=token)
