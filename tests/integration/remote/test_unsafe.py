"""A provider that TLS cannot reach: trouble until someone acts, and in words that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.fake_upstream import Chaos, FakeUpstream
from tests.integration.test_tls import make
from tests.remote_engine import Recorder, Waits, job, started
from workernode.condition import Condition, Worse
from workernode.outcome import Later, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def answering(reply: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """An https address where the first bytes are answered by these, and then there is an end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def outcome_at(url: str, tries: Waits) -> Later:
    async with started(url, tries) as engine:
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    return outcome


def told(outcome: Later) -> Worse:
    worse = Condition().after(outcome, trying=False)
    assert isinstance(worse, Worse)
    return worse


async def test_a_certificate_that_nobody_vouches_for_is_told_at_once(tmp_path: Path, waits: Waits) -> None:
    pair = make(tmp_path / "pair")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    async with answering(b"", context) as url:
        worse = told(await outcome_at(url, waits))
    assert worse.state == "misconfigured"
    assert "API_URL" in worse.sentence
    assert "SSL_CERT_FILE" in worse.sentence
    assert worse.said == "self-signed certificate"
    assert waits.seconds == []


async def test_an_address_without_tls_is_told_at_once(waits: Waits) -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") as url:
        worse = told(await outcome_at(url, waits))
    assert (worse.state, worse.said) == ("misconfigured", "wrong version number")


@pytest.mark.parametrize(
    "page",
    [
        "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
        "Client sent an HTTP request to an HTTPS server.\n",
        "<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br /></p>",
    ],
)
async def test_an_address_with_nothing_but_tls_is_told_at_once(page: str, waits: Waits) -> None:
    async with FakeUpstream() as upstream:
        upstream.script = [Chaos(status=400, body=page.encode()) for _ in range(2)]
        worse = told(await outcome_at(upstream.url, waits))
        assert worse.state == "misconfigured"
        assert "API_URL" in worse.sentence
        assert worse.said in page
        async with started(upstream.url) as engine:  # what a client may have made it say is no news of the node
            assert isinstance(await engine.answer(job(page), Recorder()), Refused)


async def test_a_handshake_that_breaks_off_is_tried_again(waits: Waits) -> None:
    async with answering(b"") as url:
        outcome = await outcome_at(url, waits)
    assert outcome.error.code == "upstream_failed"
    assert len(waits.seconds) == 2


async def test_a_host_without_an_address_names_the_setting(waits: Waits) -> None:
    outcome = await outcome_at("http://nothing.invalid/v1", waits)
    assert outcome.error.message == "No address is known for the host in API_URL."
