"""Authorities whose certificates lack what Python's own default asks for since 3.13: every other client trusts them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner

import controller.cluster
import process.cluster
from broker.pulsar.credential import Credential
from controller.kinds import AIMODEL
from fleet.access.command import access
from fleet.admin_settings import AdminSettings
from fleet.doctor.asking import ask
from fleet.doctor.broker_admin import check_admin
from process.settings import load
from process.tls import trusting
from tests.http_proxy import HttpProxy
from tests.remote_engine import Recorder, job, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from typing import Any

    from click.testing import Result

_BARE = "[req]\ndistinguished_name=name\n[name]\n[none]\n[server]\nsubjectAltName=IP:127.0.0.1\n"
"""With ``[none]`` neither the key's usage nor its identifier is told; with ``[server]`` no authority's identifier."""


class Server(NamedTuple):
    """It answers an empty object to whatever is asked; ``account`` has what a service account's folder has."""

    url: str
    port: int
    account: Path
    posts: list[str]


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("There is no openssl command.")
    (tmp_path / "bare.cnf").write_text(_BARE)
    authority = "req -x509 -config bare.cnf -extensions none -subj /CN=bare -keyout ca.key -out ca.crt"
    certificate = "req -config bare.cnf -subj /CN=server -keyout server.key -out server.csr"
    signing = "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile bare.cnf -extensions server"
    for command in (f"{authority} -newkey rsa:2048 -nodes", f"{certificate} -newkey rsa:2048 -nodes", signing):
        options = [*command.split(), *(["-out", "server.crt"] if command is signing else [])]
        await asyncio.to_thread(subprocess.run, [openssl, *options], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "token").write_text("token")
    _be_strict(monkeypatch)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")

    posts: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            posts.append(request.path)
        tenant: dict[str, list[str]] = {"adminRoles": [], "allowedClusters": []}
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}} | tenant)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own)
    await site.start()
    port = runner.addresses[0][1]
    yield Server(f"https://127.0.0.1:{port}", port, tmp_path, posts)
    await runner.cleanup()


def _be_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.13, whichever one runs."""
    default: Callable[..., ssl.SSLContext] = ssl.create_default_context

    def strict(*args: Any, **more: Any) -> ssl.SSLContext:
        context = default(*args, **more)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


async def test_python_would_not_trust_such_an_authority(server: Server) -> None:
    context = ssl.create_default_context(cafile=server.account / "ca.crt")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(server.url, ssl=context)


async def test_whoever_is_told_to_trust_it_does(server: Server) -> None:
    async with aiohttp.ClientSession() as session:
        assert (await session.get(server.url, ssl=trusting(server.account / "ca.crt"))).status == 200


async def test_names_and_authorities_are_checked_all_the_same(server: Server) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://localhost:{server.port}", ssl=trusting(server.account / "ca.crt"))
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(server.url, ssl=trusting())


async def test_roles_trust_their_clusters_authority(server: Server) -> None:
    cluster = process.cluster.Cluster(server.url, server.account)
    assert await cluster.ask("GET", "/version")
    await cluster.aclose()


async def test_the_controller_trusts_its_clusters_authority(server: Server, tmp_path: Path) -> None:
    there = {"server": server.url, "certificate-authority": str(server.account / "ca.crt")}
    one = {
        "clusters": [{"name": "it", "cluster": there}],
        "users": [{"name": "it", "user": {"token": "token"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "it", **one}))
    cluster = await controller.cluster.Cluster.connect(path)
    assert await cluster.all(AIMODEL) == []
    await cluster.aclose()


async def test_a_tunnel_through_a_proxy_ends_at_the_provider(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.account / "ca.crt"))
    async with HttpProxy("s3cret") as proxy, started(f"{server.url}/v1", proxy=proxy.url) as engine:
        await engine.answer(job("r1"), Recorder())
        assert (await ask(server.url, {}, proxy=proxy.url)).status == 200
    assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{server.port}"}
    assert server.posts == ["/v1/chat/completions"]


async def test_connections_to_a_broker_trust_its_authority(server: Server) -> None:
    context = Credential(token=None, tls_trust_certs=str(server.account / "ca.crt")).tls()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.close()
    await writer.wait_closed()


async def test_whoever_asks_a_brokers_admin_interface_trusts_its_authority(server: Server) -> None:
    environ = {"PULSAR_ADMIN_URL": server.url, "PULSAR_TOKEN_FILE": str(server.account / "token")}
    environ |= {f"PULSAR_NAMESPACE_{name}": name.lower() for name in ("REQUESTS", "LINKS", "RESULTS")}
    trusting_it = environ | {"PULSAR_TLS_TRUST_CERTS": str(server.account / "ca.crt")}

    def granted(env: dict[str, str]) -> Result:
        return CliRunner().invoke(access, env=env)

    refused = await asyncio.to_thread(granted, environ)
    assert refused.exit_code == 1
    assert "its certificate is not trusted" in refused.output
    assert "PULSAR_TLS_TRUST_CERTS" in refused.output
    assert (await asyncio.to_thread(granted, trusting_it)).exit_code == 0
    assert server.posts
    assert "could not be asked" in await _told_by_the_doctor(environ)
    assert "could not be asked" not in await _told_by_the_doctor(trusting_it)


async def test_an_admin_interface_is_shown_the_token_of_a_file(server: Server) -> None:
    token = server.account / "token"
    settings = load(AdminSettings, {"PULSAR_TOKEN_FILE": str(token)})
    assert settings.admin_token == "token"
    token.write_text("renewed\n")
    assert settings.admin_token == "renewed"


async def _told_by_the_doctor(environ: dict[str, str]) -> str:
    settings = load(AdminSettings, environ)
    findings = await check_admin(settings.admin_url, settings.admin_token, settings.admin_trust)
    return " ".join(finding.sentence for finding in findings)


async def test_what_the_environment_trusts_is_trusted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.account / "ca.crt"))
    assert (await ask(server.url, {})).status == 200
    # It answers no completion, but it is asked for one.
    async with started(f"{server.url}/v1") as engine:
        outcome = await engine.answer(job("Hello"), Recorder())
    assert "certificate" not in str(outcome)
