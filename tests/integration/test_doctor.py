"""The doctor and real counterparts: a provider, our own roles, a broker."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from broker.memory import MemoryBroker, MemoryServer
from fleet.doctor.examination import examine
from fleet.doctor.report import as_json, is_well
from tests.fake_upstream import FakeUpstream
from tests.in_process import InProcessFleet, free_port

if TYPE_CHECKING:
    from fleet.doctor.finding import Finding
    from tests.pulsar_server import PulsarServer

KEY = "sk-CANARY-0123456789"


def remote(upstream: str, **env: str) -> dict[str, str]:
    """The environment of a remote node without a broker."""
    own = {"PULSAR_URL": "memory:", "NODE_TYPE": "remote", "API_URL": upstream, "MODEL_NAME": "ours", "API_KEY": KEY}
    return {**own, "UPSTREAM_MODEL": "upstream-model", "NODE_PORT": str(free_port()), **env}


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


async def test_a_provider_in_order_is_reached_with_its_key_and_model() -> None:
    async with FakeUpstream(api_key=KEY) as upstream:
        found = await examine(("node",), remote(upstream.url))
    assert is_well(found)
    assert {finding.state for finding in found} == {"ok"}
    assert {"upstream", "upstream model", "upstream clock"} <= set(by_name(found))
    assert KEY not in as_json(found)


async def test_a_key_that_the_provider_refuses_fails() -> None:
    async with FakeUpstream(api_key="sk-another-key") as upstream:
        found = await examine(("node",), remote(upstream.url))
    finding = by_name(found)["upstream"]
    assert (finding.state, finding.remedy) == ("fail", "Check API_KEY.")
    # The fake provider repeats a part of the key in its error, as real ones do.
    assert "CANARY" not in as_json(found)
    assert KEY[:6] not in as_json(found)


async def test_a_model_that_the_provider_does_not_list_is_a_warning() -> None:
    async with FakeUpstream(api_key=KEY) as upstream:
        found = by_name(await examine(("node",), remote(upstream.url, UPSTREAM_MODEL="unknown")))
    assert (found["upstream"].state, found["upstream model"].state) == ("ok", "warn")


async def test_a_provider_without_a_list_of_models_is_a_warning() -> None:
    async with FakeUpstream(api_key=KEY) as upstream:
        found = by_name(await examine(("node",), remote(upstream.url.removesuffix("/v1") + "/elsewhere")))
    assert found["upstream"].state == "warn"


async def test_a_provider_out_of_reach_fails_without_its_address() -> None:
    found = await examine(("node",), remote(f"http://127.0.0.1:{free_port()}/secret-path"))
    finding = by_name(found)["upstream"]
    assert (finding.state, finding.sentence) == ("fail", "The provider cannot be reached: connection refused.")
    assert "secret-path" not in as_json(found)


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"location": "/stolen", "date": "Mon, 01 Jan 2001 00:00:00 GMT"})

    app = web.Application()
    app.router.add_get("/{path:.*}", redirect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        found = by_name(await examine(("node",), remote(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")))
    finally:
        await runner.cleanup()
    assert asked == ["/v1/models"]
    assert found["upstream"].state == "warn"
    assert found["upstream clock"].state == "warn"
    assert "behind" in found["upstream clock"].sentence


async def test_ports_that_our_own_roles_serve_are_fine() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {})
    try:
        node, gateway = await fleet.node(), await fleet.gateway()
        environ = {"PULSAR_URL": "memory:", "NODE_PORT": str(node.port), "PORT": str(gateway.port)}
        found = by_name(await examine(("gateway", "node"), environ))
    finally:
        await fleet.aclose()
    for role in ("gateway", "node"):
        assert found[f"{role} port"].state == "ok"
        assert "of ours" in found[f"{role} port"].sentence


async def test_with_the_embedded_broker_there_is_nothing_to_look_at() -> None:
    found = by_name(await examine(("gateway",), {"PULSAR_URL": "memory:", "PORT": str(free_port())}))
    assert "there is no broker to look at" in found["broker"].sentence
    assert "round trip" not in found


@pytest.mark.pulsar
async def test_a_real_broker_is_measured_and_its_settings_are_read(pulsar_server: PulsarServer) -> None:
    run = uuid.uuid4().hex[:8]
    environ = {
        "PULSAR_URL": pulsar_server.url,
        "PULSAR_ADMIN_URL": pulsar_server.admin_url,
        "RES_TOPIC_NAME": f"results-{run}",
        "MODEL_NAME": f"model-{run}",
        "NODE_PORT": str(free_port()),
    }
    for _ in range(2):  # what the first run left behind is no obstacle to the second
        found = by_name(await examine(("node",), environ))
        assert is_well(list(found.values()))
        assert found["broker"].measured_ms is not None
        assert found["request topic"].state == "ok"
        assert found["results topic"].state == "ok"
        assert found["broker settings"].state == "ok", "deploy/pulsar sets the delay to 0"
        assert found["broker clock"].state == "ok"
        assert 0 < (found["round trip"].measured_ms or 0) < 1000


@pytest.mark.pulsar
async def test_an_admin_interface_that_cannot_be_asked_is_a_warning(pulsar_server: PulsarServer) -> None:
    environ = {
        "PULSAR_URL": pulsar_server.url,
        "PULSAR_ADMIN_URL": f"http://127.0.0.1:{free_port()}",
        "RES_TOPIC_NAME": f"results-{uuid.uuid4().hex[:8]}",
        "PORT": str(free_port()),
    }
    found = by_name(await examine(("gateway",), environ))
    assert found["broker settings"].state == "warn"
    assert "could not be asked" in found["broker settings"].sentence
    assert "request topic" not in found
