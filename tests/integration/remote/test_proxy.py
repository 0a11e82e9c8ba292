"""A provider that only a proxy leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.doctor.upstream import check_upstream
from process.settings import load
from tests.fake_upstream import oracle_text
from tests.http_proxy import HttpProxy
from tests.remote_engine import Recorder, job, started
from workernode.outcome import Answered, Later
from workernode.settings import NodeSettings

if TYPE_CHECKING:
    from tests.fake_upstream import FakeUpstream


@pytest.mark.parametrize("password", ["", "s3cret-of-the-proxy"])
@pytest.mark.parametrize("stream", [False, True])
async def test_requests_go_through_the_proxy(upstream: FakeUpstream, password: str, stream: bool) -> None:
    async with HttpProxy(password) as proxy, started(upstream.url, proxy=proxy.url) as engine:
        a_job, answer = job("r1 tokens=5", stream=stream), Recorder()
        assert isinstance(await engine.answer(a_job, answer), Answered)
        said = answer.text if stream else answer.whole["choices"][0]["message"]["content"]
        assert said == oracle_text(a_job.request.body)
    assert proxy.asked == [f"POST {upstream.url}/chat/completions"]


async def test_a_proxy_that_does_not_answer_is_told_as_such(upstream: FakeUpstream) -> None:
    async with HttpProxy() as proxy:
        url = proxy.url
    async with started(upstream.url, proxy=url) as engine:
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    assert outcome.error.message == "The proxy in API_PROXY gives no way to the provider of this model."
    assert not upstream.requests


async def test_a_proxy_that_lets_nobody_through_is_told_as_such() -> None:
    async with HttpProxy("s3cret") as proxy:
        closed = proxy.url.replace("s3cret", "wrong")
        async with started("https://provider.example/v1", proxy=closed) as engine:
            outcome = await engine.answer(job("r1"), Recorder())
        environment = {"NODE_TYPE": "remote", "MODEL_NAME": "m", "API_URL": "https://provider.example/v1"}
        (finding,) = await check_upstream(load(NodeSettings, environment | {"API_PROXY": closed}))
    assert isinstance(outcome, Later)
    assert outcome.error.message == "The proxy in API_PROXY gives no way to the provider of this model."
    assert set(proxy.asked) == {"CONNECT provider.example:443"}
    assert finding.sentence == "The provider cannot be reached: the proxy refuses with 407."
    assert finding.remedy == "Check API_URL, and API_PROXY."


async def test_a_proxy_that_lets_nobody_through_to_a_provider_without_tls_is_told_as_such() -> None:
    async with (
        HttpProxy("s3cret") as proxy,
        started("http://provider.example/v1", proxy=proxy.url.replace("s3cret", "wrong")) as engine,
    ):
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    assert outcome.error.message == "The proxy in API_PROXY gives no way to the provider of this model."
