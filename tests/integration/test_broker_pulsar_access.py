"""Who may use a real Pulsar broker: tokens and certificates."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from broker.interface import BrokerForbidden, BrokerUnavailable
from broker.open import open_broker
from broker.pulsar import PulsarBroker, PulsarLimits
from broker.pulsar.client import PulsarClient
from tests.pulsar_server import PulsarServer
from tests.tcp_proxy import TcpProxy

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
    client = PulsarClient(url, PulsarLimits(), token=None, tls_trust_certs=tls_trust_certs)
    try:
        return await client.answers(topic)
    finally:
        await client.aclose()
