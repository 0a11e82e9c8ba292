"""Who may use a real Pulsar broker: tokens, certificates, and the least that each role needs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import shutil
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from broker import access
from broker.interface import BrokerForbidden, BrokerUnavailable
from broker.open import open_broker
from broker.pulsar import PulsarBroker, PulsarLimits
from broker.pulsar.client import PulsarClient
from broker.pulsar.credential import Credential
from tests.in_process import InProcessFleet
from tests.pulsar_server import PulsarServer
from tests.tcp_proxy import TcpProxy
from tests.waiting import until
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.pulsar

KEY = b"a key that only these tests know, of 32 bytes or more"
TOPIC = "persistent://public/default/guarded"


def _token(role: str) -> str:
    """A JSON Web Token, signed with HS256 (RFC 7515, section 3)."""
    head, body = (_base64(json.dumps(part).encode()) for part in ({"alg": "HS256"}, {"sub": role}))
    signature = hmac.digest(KEY, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def guarded_server(pulsar_server: PulsarServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulsarServer]:
    """A broker that asks for a token. It is only started where the shared one could be."""
    settings = f"""
authenticationEnabled=true
authenticationProviders=org.apache.pulsar.broker.authentication.AuthenticationProviderToken
authorizationEnabled=true
superUserRoles=admin
tokenSecretKey=data:;base64,{base64.b64encode(KEY).decode()}
brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken
brokerClientAuthenticationParameters=token:{_token("admin")}
"""
    server = PulsarServer(tmp_path_factory.mktemp("guarded"), settings=settings, token=_token("admin"))
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("token", [None, "nonsense", _token("admin")[:-4] + "AAAA"])
async def test_a_wrong_token_is_forbidden(guarded_server: PulsarServer, token: str | None) -> None:
    connection = PulsarBroker(guarded_server.url, token=token)
    with pytest.raises(BrokerForbidden, match="token") as refused:
        await connection.connect()
    assert token is None or token not in str(refused.value)
    await connection.aclose()


async def test_a_role_without_permission_is_forbidden(guarded_server: PulsarServer) -> None:
    connection = PulsarBroker(guarded_server.url, token=_token("somebody"))
    with pytest.raises(BrokerForbidden, match=TOPIC):
        await connection.producer(TOPIC)
    with pytest.raises(BrokerForbidden, match=TOPIC):
        await connection.ensure(TOPIC, "workers")
    await connection.aclose()


async def test_a_token_is_read_again_for_each_connection(guarded_server: PulsarServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("expired\n", encoding="utf-8")
    connection = open_broker(guarded_server.url, token_file=file)
    with pytest.raises(BrokerForbidden):
        await connection.connect()
    file.write_text(_token("admin") + "\n", encoding="utf-8")
    producer = await connection.producer(TOPIC)
    await producer.send(b"hello")
    await connection.aclose()


async def test_a_token_that_cannot_be_read_is_forbidden_and_harms_nothing(
    guarded_server: PulsarServer, tmp_path: Path
) -> None:
    connection = open_broker(guarded_server.url, token_file=tmp_path / "missing")
    with pytest.raises(BrokerForbidden):
        await connection.connect()
    await connection.aclose()


async def test_a_certificate_must_be_made_out_to_the_host(pulsar_server: PulsarServer, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221 nothing else runs meanwhile
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    # The client of the library is asked as well: it, too, must look at the name.
    async with TcpProxy("127.0.0.1", pulsar_server.port, ssl_context=context) as proxy:
        right = open_broker(f"pulsar+ssl://localhost:{proxy.port}", tls_trust_certs=certificate)
        await right.connect()
        await right.aclose()
        topic = "persistent://public/default/anything"
        assert await _answers(f"pulsar+ssl://localhost:{proxy.port}", str(certificate), topic)
        assert not await _answers(f"pulsar+ssl://127.0.0.1:{proxy.port}", str(certificate), topic)
        for url, trusted in (
            (f"pulsar+ssl://127.0.0.1:{proxy.port}", certificate),
            (f"pulsar+ssl://localhost:{proxy.port}", None),
        ):
            wrong = open_broker(url, tls_trust_certs=trusted)
            with pytest.raises(BrokerUnavailable, match="certificate is not trusted"):
                await wrong.connect()
            await wrong.aclose()


async def _answers(url: str, tls_trust_certs: str, topic: str) -> bool:
    client = PulsarClient(url, PulsarLimits(), Credential(token=None, tls_trust_certs=tls_trust_certs))
    try:
        return await client.answers(topic)
    finally:
        await client.aclose()


MODEL = "org/guarded"
NAMES = {
    "PULSAR_TENANT": "fleet",
    "PULSAR_NAMESPACE_REQUESTS": "requests",
    "PULSAR_NAMESPACE_LINKS": "links",
    "PULSAR_NAMESPACE_RESULTS": "results",
}
TOPICS = Topics("fleet", "requests", "links", "results")


@pytest.fixture(scope="module")
def granted_server(guarded_server: PulsarServer) -> PulsarServer:
    """Each role may do there what ``fleet access`` grants, and nothing else."""
    for _ in range(2):  # it may be repeated
        ran = _access("--model", MODEL, PULSAR_ADMIN_URL=guarded_server.admin_url, PULSAR_TOKEN=_token("admin"))
        assert ran.returncode == 0, ran.stderr
    return guarded_server


def _access(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleet", "access", *options]
    base = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    return subprocess.run(command, env={**base, **NAMES, **env}, capture_output=True, text=True, check=False)


async def test_the_roles_work_with_no_more_than_is_granted(granted_server: PulsarServer, tmp_path: Path) -> None:
    def fleet(role: str) -> InProcessFleet:
        env = {**NAMES, "MODEL_NAME": MODEL, "MODELS": MODEL}
        return InProcessFleet(lambda: PulsarBroker(granted_server.url, token=_token(role)), env)

    fleets = {role: fleet(role) for role in (access.GATEWAY, access.NODE, access.MANAGEMENT)}
    management = await fleets[access.MANAGEMENT].management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    gateway = await fleets[access.GATEWAY].gateway()
    async with aiohttp.ClientSession() as session:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        # It is published before there is a node, so that nobody but `fleet access` can have made the subscription.
        asked = asyncio.ensure_future(session.post(f"{gateway.url}/v1/chat/completions", json=body))
        await until(lambda: _waits(session, gateway.url))
        await fleets[access.NODE].node()
        assert (await asked).status == 200

        async def is_charged() -> bool:
            async with session.get(f"{management.url}/api/v1/usage?by=model") as response:
                return [row["requests"] for row in (await response.json())["data"]] == [1]

        await until(is_charged, within_s=10)
        async with session.get(f"{management.url}/api/v1/nodes") as response:
            assert [node["model"] for node in (await response.json())["data"]] == [MODEL]
    for each in reversed(fleets.values()):
        await each.aclose()


async def _waits(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(f"{url}/metrics") as response:
        return "gateway_requests_waiting 1.0" in await response.text()


@pytest.mark.parametrize(
    ("role", "doing", "topic"),
    [
        (access.NODE, "publish", TOPICS.requests(MODEL)),
        (access.NODE, "consume", TOPICS.requests("another model")),
        (access.NODE, "consume", TOPICS.dead_letters(MODEL)),
        (access.NODE, "consume", TOPICS.results),
        (access.GATEWAY, "consume", TOPICS.requests(MODEL)),
        (access.GATEWAY, "consume", TOPICS.dead_letters(MODEL)),
        (access.GATEWAY, "consume", TOPICS.results),
        (access.MANAGEMENT, "publish", TOPICS.results),
        (access.MANAGEMENT, "publish", TOPICS.requests(MODEL)),
        (access.MANAGEMENT, "consume", TOPICS.requests(MODEL)),
        ("somebody", "publish", TOPICS.presence),
        ("somebody", "publish", TOPICS.results),
    ],
)
async def test_what_is_not_granted_is_refused(granted_server: PulsarServer, role: str, doing: str, topic: str) -> None:
    connection = PulsarBroker(granted_server.url, token=_token(role))
    with pytest.raises(BrokerForbidden):
        await (connection.producer(topic) if doing == "publish" else connection.ensure(topic, "spy"))
    await connection.aclose()


def test_access_needs_a_namespace_for_each_kind_of_word() -> None:
    ran = _access("--show", PULSAR_NAMESPACE_LINKS="requests")
    assert (ran.returncode, ran.stderr) == (
        2,
        "Set PULSAR_NAMESPACE_REQUESTS, PULSAR_NAMESPACE_LINKS and PULSAR_NAMESPACE_RESULTS to three namespaces: "
        "in one that they share a role would get more than it needs.\n",
    )


def test_access_that_is_refused_says_so(guarded_server: PulsarServer) -> None:
    ran = _access(PULSAR_ADMIN_URL=guarded_server.admin_url, PULSAR_TOKEN=_token("somebody"))
    assert ran.returncode == 1
    assert "answered 401" in ran.stderr or "answered 403" in ran.stderr
    assert "Traceback" not in ran.stderr
