"""Gateway and management over TLS, with a certificate made for the test; and what wrong files are told."""

from __future__ import annotations

import dataclasses
import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from asyncio import to_thread
from typing import TYPE_CHECKING, NamedTuple

import pytest

from broker.memory import MemoryBroker, MemoryServer
from fleet.doctor.asking import Unanswered, ask
from fleet.doctor.ports import check_ports
from fleet.start import health
from fleet.start.ports import Address
from fleet.start.readiness import answer
from gateway.settings import GatewaySettings
from management.settings import ManagementSettings
from process.settings import Settings, WrongSettings, load
from tests.in_process import InProcessFleet
from tests.integration.test_top import Terminal
from tests.raw_http import Connection, get

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Pair(NamedTuple):
    """A certificate for 127.0.0.1 and its key."""

    certificate: Path
    key: Path

    def env(self, before: str = "") -> dict[str, str]:
        return {f"{before}SSL_CERTFILE": str(self.certificate), f"{before}SSL_KEYFILE": str(self.key)}


def make(where: Path, *key_options: str, name: str = "IP:127.0.0.1", signed_by: Pair | None = None) -> Pair:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("There is no openssl command.")
    where.mkdir()
    pair = Pair(where / "cert.pem", where / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    command += ["-subj", f"/CN={where.name}", "-addext", f"subjectAltName={name}", *(key_options or ("-nodes",))]
    if signed_by is not None:
        command += ["-CA", str(signed_by.certificate), "-CAkey", str(signed_by.key)]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*command, "-out", str(pair.certificate), "-keyout", str(pair.key)], check=True, capture_output=True)
    return pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(tmp_path_factory.mktemp("tls") / "pair")


@pytest.fixture
async def fleet() -> AsyncIterator[InProcessFleet]:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": "static"})
    yield fleet
    await fleet.aclose()


def asked(port: int, path: str, pair: Pair, body: bytes | None = None) -> bytes:
    """What a client that trusts just this certificate is answered."""
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", body, {"content-type": "application/json"})
    context = ssl.create_default_context(cafile=pair.certificate)
    with urllib.request.urlopen(request, context=context, timeout=20) as response:
        answer: bytes = response.read()
        return answer


async def test_the_gateway_answers_over_tls(fleet: InProcessFleet, pair: Pair) -> None:
    await fleet.node()
    gateway = await fleet.gateway(MODELS="static", **pair.env())
    body = json.dumps({"model": "static", "messages": [{"role": "user", "content": "hi"}]}).encode()
    answer = json.loads(await to_thread(asked, gateway.port, "/v1/chat/completions", pair, body))
    assert answer["choices"][0]["message"]["content"]


async def test_a_client_without_tls_gets_nothing(fleet: InProcessFleet, pair: Pair) -> None:
    gateway = await fleet.gateway(**pair.env())
    async with Connection(gateway.port) as connection:
        connection.send(get("/livez"))
        assert await connection.closed()
    assert json.loads(await to_thread(asked, gateway.port, "/livez", pair)) == {"status": "ok"}


async def test_we_know_our_own_roles_by_their_certificates(fleet: InProcessFleet, pair: Pair, tmp_path: Path) -> None:
    authority = make(tmp_path / "authority")
    foreign = make(tmp_path / "gateway", name="DNS:api.example.com", signed_by=authority)
    sister = make(tmp_path / "sister", name="DNS:api.example.com", signed_by=authority)
    for each in (foreign, sister):
        with each.certificate.open("a") as chain:
            chain.write(authority.certificate.read_text())
    for own, stranger in ((pair, foreign), (foreign, sister)):
        gateway = await fleet.gateway(**own.env())
        at = Address("gateway", "127.0.0.1", gateway.port, "PORT", own.certificate)
        await to_thread(health.ask, at)
        assert await answer(f"{at.url}/readyz", (own.certificate,)) == "200"
        (finding,) = await check_ports([at])
        assert (finding.state, finding.sentence) == ("ok", f"A role of ours serves {at.url} already.")
        other = dataclasses.replace(at, certificate=stranger.certificate)
        with pytest.raises(OSError, match="certificate verify failed"):
            await to_thread(health.ask, other)
        assert "certificate verify failed" in await answer(f"{at.url}/readyz", (stranger.certificate,))
        assert [finding.state for finding in await check_ports([other])] == ["fail"]


async def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    assert "holds no certificate" in await answer("https://127.0.0.1:1/readyz", (empty,))
    assert "No such file" in await answer("https://127.0.0.1:1/readyz", (tmp_path / "gone.pem",))


async def test_commands_name_the_variable_by_which_they_trust_a_certificate(
    fleet: InProcessFleet, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db", **pair.env("MANAGEMENT_"))
    address = f"https://127.0.0.1:{management.port}/livez"
    with pytest.raises(Unanswered, match="SSL_CERT_FILE"):
        await ask(address, {})
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
    assert (await ask(address, {})).status == 200


async def test_management_answers_over_tls(fleet: InProcessFleet, pair: Pair, tmp_path: Path) -> None:
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db", **pair.env("MANAGEMENT_"))
    assert json.loads(await to_thread(asked, management.port, "/livez", pair)) == {"status": "ok"}


@pytest.mark.parametrize(("role", "before"), [(GatewaySettings, ""), (ManagementSettings, "MANAGEMENT_")])
def test_files_that_do_not_belong_together_are_told(
    role: type[Settings], before: str, pair: Pair, tmp_path: Path
) -> None:
    certificate, key = f"{before}SSL_CERTFILE", f"{before}SSL_KEYFILE"
    good = pair.env(before)
    load(role, good)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    locked = make(tmp_path / "locked", "-passout", "pass:secret")
    stranger = make(tmp_path / "stranger")
    for wrong in (
        {certificate: str(nonsense)},
        {key: str(nonsense)},
        {key: str(stranger.key)},
        locked.env(before),
    ):
        with pytest.raises(WrongSettings, match=f"^{certificate} and {key} are not a certificate and its key"):
            load(role, {**good, **wrong})
    with pytest.raises(WrongSettings, match=f"^{certificate} is set without {key}: set both"):
        load(role, {certificate: good[certificate]})
    with pytest.raises(WrongSettings, match=f"^{key} is set without {certificate}: set both"):
        load(role, {key: good[key]})


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid command, which Linux has")
def test_nobody_is_asked_for_a_keys_password(tmp_path: Path) -> None:
    """OpenSSL would ask whoever sits at the terminal, and the gateway would wait for the answer."""
    locked = make(tmp_path / "locked", "-passout", "pass:secret")
    terminal = Terminal()
    gateway = terminal.run("setsid", "--ctty", "--wait", sys.executable, "-m", "fleet", "gateway", **locked.env())
    try:
        terminal.read_until("SSL_CERTFILE and SSL_KEYFILE are not a certificate and its key")
        assert gateway.wait(30) == 2
        assert "phrase" not in terminal.shown
    finally:
        gateway.kill()
        gateway.wait()
        terminal.close()
