"""What the official Python client makes of our answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import openai
import pytest

import workernode.role
from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import KEY
from tests.scripted_engine import ScriptedEngine
from tests.watched_broker import Watch
from wire import errors
from workernode.outcome import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "scripted"
HI: list[Any] = [{"role": "user", "content": "hi"}]


class Client:
    """A fleet with a scripted engine, and a client that would retry at once."""

    def __init__(self, engine: ScriptedEngine, port: int, watch: Watch) -> None:
        self.engine = engine
        self.watch = watch
        self.port = port
        self.openai = self.with_key(KEY)

    def with_key(self, key: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=2)

    async def ask(self, **fields: Any) -> Any:
        return await self.openai.chat.completions.create(**{"model": MODEL, "messages": HI, **fields})


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    engine, watch, server = ScriptedEngine("one", " two"), Watch(), MemoryServer()
    monkeypatch.setattr(workernode.role, "_engine", lambda *_: engine)
    # The client's own pause before a retry, which is not what is looked at here.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    common = {"MODEL_NAME": MODEL, "API_KEYS": f"tester:{KEY}"}
    fleet = InProcessFleet(lambda: watch.over(MemoryBroker(server)), common)
    await fleet.node()
    made = Client(engine, (await fleet.gateway()).port, watch)
    yield made
    await made.openai.close()
    await fleet.aclose()


REFUSALS: list[tuple[errors.FleetError, type[openai.APIStatusError]]] = [
    (errors.InvalidRequest("no", param="messages"), openai.BadRequestError),
    (errors.InvalidRequest("Too long.", param="messages", code="context_length_exceeded"), openai.BadRequestError),
    (errors.Forbidden(), openai.PermissionDeniedError),
    (errors.UpstreamRefused(), openai.BadRequestError),
    (errors.Poison(), openai.InternalServerError),
    (errors.DeadlineExceeded(), openai.InternalServerError),
    (errors.AnswerTooLarge(), openai.InternalServerError),
]


@pytest.mark.parametrize(("error", "raised"), REFUSALS, ids=lambda each: getattr(each, "own_code", ""))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_will_fail_again_raises_by_its_status_and_is_not_retried(
    client: Client, error: errors.FleetError, raised: type[openai.APIStatusError], stream: bool
) -> None:
    client.engine.steps = (Refused(error.body()),)
    with pytest.raises(raised) as caught:
        await client.ask(stream=stream)
    assert caught.value.status_code == error.http_status
    assert (caught.value.code, caught.value.param) == (error.own_code, error.param)
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")
    assert client.watch.requests == 1


async def test_what_may_succeed_later_is_retried_by_the_client(client: Client) -> None:
    client.engine.steps = (Refused(errors.UpstreamFailed(retry_after_ms=10).body()),)
    with pytest.raises(openai.InternalServerError) as caught:
        await client.ask()
    assert caught.value.code == "upstream_failed"
    assert client.watch.requests == 3


async def test_the_gateways_own_refusals_raise_by_their_status(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.ask(model="unknown")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.ask(temperature=5)
    assert (bad.value.code, bad.value.param) == ("invalid_value", "temperature")
    with pytest.raises(openai.NotFoundError):
        await client.openai.embeddings.create(model=MODEL, input="x")
    async with client.with_key("sk-wrong-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as wrong:
            await stranger.models.list()
    assert wrong.value.code == "invalid_api_key"
    assert "sk-wrong-wrong" not in str(wrong.value)
    assert client.watch.requests == 0


async def test_a_stream_is_read_whole(client: Client) -> None:
    stream = await client.ask(stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks if chunk.choices) == "one two"
    assert chunks[-1].usage.total_tokens == 8
    assert Counter(chunk.id for chunk in chunks) == {chunks[0].id: 3}


async def test_an_error_in_mid_stream_is_raised_after_the_text_before_it(client: Client) -> None:
    client.engine.steps = ("one", Refused(errors.UpstreamFailed("The provider broke off.").body()))
    stream = await client.ask(stream=True)
    assert (await anext(stream)).choices[0].delta.content == "one"
    with pytest.raises(openai.APIError, match=r"The provider broke off\.") as caught:
        await anext(stream)
    assert caught.value.code == "upstream_failed"
    assert client.watch.requests == 1


async def test_models_are_listed_and_retrieved(client: Client) -> None:
    assert [model.id async for model in client.openai.models.list()] == [MODEL]
    assert (await client.openai.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await client.openai.models.retrieve("a/b")


async def test_the_request_id_of_an_answer_is_the_headers(client: Client) -> None:
    client.engine.steps = (b'{"id": "x", "object": "chat.completion", "choices": []}',)
    raw = await client.openai.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    assert raw.parse()._request_id == raw.headers["x-request-id"]
