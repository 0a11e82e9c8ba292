"""OpenAI's client on every endpoint, over a real HTTP upstream whose every answer is known, and over a static node."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import openai
import pytest
import pytest_asyncio

from tests.fake_texts import oracle_text_usage, oracle_texts, oracle_vectors
from tests.fake_upstream import Chaos, FakeUpstream, oracle_text
from tests.integration.conftest import BROKERS, fleet_on
from tests.integration.test_main_job import charges, known
from tests.raw_http import exchange, get, post
from tests.run import RUN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.in_process import InProcessFleet

pytestmark = pytest.mark.asyncio(loop_scope="module")


MODEL = f"org/model-{RUN}"
STATIC = f"static-{RUN}"
TEXT = "This is it."
PROMPTS: dict[str, Any] = {
    "a_text": "r1 tokens=3",
    "an_empty_text": "",
    "texts": ["r1 tokens=2", "r2 tokens=5", "r3"],
    "one_text_in_a_list": ["r1 tokens=2"],
    "tokens": [5, 6, 7],
    "lists_of_tokens": [[5], [6, 7]],
}
INPUTS = {name: prompt for name, prompt in PROMPTS.items() if prompt}


class Place:
    """A gateway, a remote and a static node, and clients that do not try again."""

    def __init__(self, fleet: InProcessFleet, upstream: FakeUpstream, port: int) -> None:
        self.fleet, self.upstream, self.port = fleet, upstream, port
        self.url = f"http://127.0.0.1:{port}"
        self.openai = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0)

    async def in_thread(self, call: Any) -> Any:
        """What the client without asyncio gets, in a thread of its own."""
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0) as client:
            return await asyncio.to_thread(call, client)

    async def post(self, path: str, body: dict[str, Any] | bytes) -> Any:
        return await exchange(self.port, post(body, path=path))


@pytest_asyncio.fixture(loop_scope="module", params=BROKERS)
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    """As everywhere, in the loop of this module."""
    started = fleet_on(request)
    yield started
    await started.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(lasting_fleet: InProcessFleet) -> AsyncIterator[Place]:
    fleet = lasting_fleet
    async with FakeUpstream() as upstream:
        gateway = await fleet.gateway(MODEL_ALIASES=f"gpt-4={MODEL},fixed={STATIC}", DEFAULT_MODEL="gpt-4")
        await fleet.node(NODE_TYPE="remote", MODEL_NAME=MODEL, UPSTREAM_MODEL="theirs", API_URL=upstream.url)
        await fleet.node(MODEL_NAME=STATIC, STATIC_ANSWER=TEXT, CONTEXT_LENGTH="100")
        for model in (MODEL, STATIC):
            await known(gateway, model)
        made = Place(fleet, upstream, gateway.port)
        yield made
        await made.openai.close()
        await fleet.aclose()


async def streamed(stream: Any) -> tuple[list[str], list[Any]]:
    """The texts by index, and the chunks."""
    texts: dict[int, str] = {}
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    return [texts[index] for index in sorted(texts)], chunks


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("options", [{}, {"n": 3}, {"echo": True}, {"n": 2, "best_of": 2}], ids=str)
async def test_a_completion_is_the_oracles_whole_and_streamed(
    place: Place, prompt: Any, options: dict[str, Any]
) -> None:
    body = {"prompt": prompt, **options}
    whole = await place.openai.completions.create(model=MODEL, **body)
    assert [choice.text for choice in whole.choices] == oracle_texts(body)
    assert [choice.index for choice in whole.choices] == list(range(len(whole.choices)))
    assert whole.usage is not None
    assert whole.usage.model_dump(exclude_none=True) == oracle_text_usage(body)
    assert (whole.model, whole.object, whole.id[:5]) == (MODEL, "text_completion", "cmpl-")

    texts, chunks = await streamed(await place.openai.completions.create(model=MODEL, stream=True, **body))
    assert texts == oracle_texts(body)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert (chunks[0].model, chunks[0].object, chunks[0].id[:5]) == (MODEL, "text_completion", "cmpl-")
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == ["stop"] * len(texts)
    assert not any(chunk.usage for chunk in chunks)
    assert place.upstream.requests[-1].json["model"] == "theirs"
    assert place.upstream.requests[-1].path == "/v1/completions"


async def test_usage_of_a_streamed_completion_comes_last_if_asked_for(place: Place) -> None:
    options: Any = {"include_usage": True}
    stream = await place.openai.completions.create(model=MODEL, prompt="r1", stream=True, stream_options=options)
    _, chunks = await streamed(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.model_dump(exclude_none=True) == oracle_text_usage({"prompt": "r1"})


async def test_a_stream_of_many_choices_is_whole_without_done_once_all_have_ended(place: Place) -> None:
    body: dict[str, Any] = {"prompt": ["r1 no-done", "r2 no-done"], "n": 2}
    texts, _ = await streamed(await place.openai.completions.create(model=MODEL, stream=True, **body))
    assert texts == oracle_texts(body)


async def test_a_stream_that_answers_one_prompt_of_two_is_not_whole(place: Place) -> None:
    only = b'data: {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}\n\n'
    cases: list[tuple[Any, bool]] = [("r1", True), (["r1", "r2"], False)]
    for prompt, whole in cases:
        place.upstream.script = [Chaos(body=only, headers=(("content-type", "text/event-stream"),))]
        stream = await place.openai.completions.create(model=MODEL, prompt=prompt, stream=True)
        if whole:
            assert (await streamed(stream))[0] == ["a"]
        else:
            with pytest.raises(openai.APIError):
                await streamed(stream)


async def test_a_completion_that_breaks_off_is_an_error_and_no_end(place: Place) -> None:
    stream = await place.openai.completions.create(model=MODEL, prompt="r1 close-after=2", stream=True)
    with pytest.raises(openai.APIError):
        await streamed(stream)


@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("dimensions", [None, 3, 64])
async def test_embeddings_are_the_oracles_in_both_forms(place: Place, given: Any, dimensions: int | None) -> None:
    body: dict[str, Any] = {"input": given, **({"dimensions": dimensions} if dimensions else {})}
    expected = oracle_vectors(body)
    # The client asks for base64 unless told otherwise, and unpacks it.
    by_default = await place.openai.embeddings.create(model=MODEL, **body)
    assert place.upstream.requests[-1].json["encoding_format"] == "base64"
    as_floats = await place.openai.embeddings.create(model=MODEL, encoding_format="float", **body)
    for answer in (by_default, as_floats):
        assert [each.embedding for each in answer.data] == expected
        assert [each.index for each in answer.data] == list(range(len(expected)))
        assert answer.model == MODEL
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    raw = await place.post("/v1/embeddings", {"model": MODEL, "encoding_format": "base64", **body})
    packed = base64.b64decode(json.loads(raw.body)["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(expected[0])}f", packed)) == expected[0]
    assert "id" not in json.loads(raw.body)


@pytest.mark.parametrize("model", [MODEL, "gpt-4"])
async def test_the_engines_path_names_the_model(place: Place, model: str) -> None:
    answer = await place.post(f"/v1/engines/{model}/embeddings", {"model": "another", "input": "a"})
    assert answer.status == 200
    assert json.loads(answer.body)["model"] == MODEL
    assert place.upstream.requests[-1].json["model"] == "theirs"
    unknown = await place.post("/v1/engines/a/b/embeddings", {"input": "a"})
    assert (unknown.status, unknown.error["code"], unknown.error["param"]) == (404, "model_not_found", "model")
    assert (await place.post("/v1/engines//embeddings", {"input": "a"})).status == 400


async def test_the_client_without_asyncio_gets_the_same(place: Place) -> None:
    def call(client: openai.OpenAI) -> tuple[list[str], str, list[float], str]:
        whole = client.completions.create(model=MODEL, prompt=["a", "b"])
        parts = client.completions.create(model=MODEL, prompt="a", stream=True)
        vector = client.embeddings.create(model=MODEL, input="a").data[0].embedding
        chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}])
        text = "".join(chunk.choices[0].text for chunk in parts)
        return [choice.text for choice in whole.choices], text, vector, chat.choices[0].message.content or ""

    texts, text, vector, chat = await place.in_thread(call)
    assert texts == oracle_texts({"prompt": ["a", "b"]})
    assert [text] == oracle_texts({"prompt": "a"})
    assert [vector] == oracle_vectors({"input": "a"})
    assert chat == oracle_text({"messages": [{"role": "user", "content": "a"}]})


@pytest.mark.parametrize("stream", [False, True])
async def test_fastchats_form_takes_one_string_as_messages(place: Place, stream: bool) -> None:
    body = {"model": MODEL, "messages": "r7 tokens=2", "repetition_penalty": 1.2, "stream": stream}
    answer = await place.post("/api/v1/chat/completions", body)
    assert answer.status == 200
    if stream:
        assert "".join(e["choices"][0]["delta"].get("content", "") for e in answer.events[:-1]) == "r7 t0 t1"
        assert answer.events[-1] == "[DONE]"
    else:
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "r7 t0 t1"
    sent = place.upstream.requests[-1].json
    assert sent["messages"] == [{"role": "user", "content": "r7 tokens=2"}]
    assert sent["repetition_penalty"] == 1.2
    listed = {**body, "messages": [{"role": "user", "content": "r7 tokens=2"}]}
    assert (await place.post("/api/v1/chat/completions", listed)).status == 200
    elsewhere = await place.post("/v1/chat/completions", body)
    assert (elsewhere.status, elsewhere.error["param"]) == (400, "messages")


async def test_a_request_without_a_model_goes_to_the_default_one(place: Place) -> None:
    for body in ({"prompt": "r1"}, {"prompt": "r1", "model": ""}):
        answer = await place.post("/v1/completions", body)
        assert json.loads(answer.body)["model"] == MODEL


async def test_an_alias_is_listed_and_answers_by_its_models_name(place: Place) -> None:
    answer = await place.openai.completions.create(model="gpt-4", prompt="r1")
    assert answer.model == MODEL
    listed = {model.id: model.model_dump()["workernode"] for model in (await place.openai.models.list()).data}
    assert set(listed) == {"fixed", "gpt-4", MODEL, STATIC}
    assert (listed["gpt-4"]["alias_of"], listed[MODEL]["aliases"]) == (MODEL, ["gpt-4"])
    assert listed[STATIC]["endpoints"] == ["chat/completions", "completions", "embeddings"]
    assert (await place.openai.models.retrieve("gpt-4")).id == "gpt-4"


async def test_a_static_node_completes_every_prompt(place: Place) -> None:
    for n in (1, 3):
        body: dict[str, Any] = {"prompt": ["a ", "b "], "n": n, "echo": True}
        expected = [f"{prompt}{TEXT}" for prompt in body["prompt"] for _ in range(n)]
        whole = await place.openai.completions.create(model="fixed", **body)
        assert [choice.text for choice in whole.choices] == expected
        texts, _ = await streamed(await place.openai.completions.create(model=STATIC, stream=True, **body))
        assert texts == expected
    tokens = await place.openai.completions.create(model=STATIC, prompt=[[1, 2], [3]])
    assert [choice.text for choice in tokens.choices] == [TEXT, TEXT]


async def test_a_static_node_embeds_the_same_input_the_same_each_time(place: Place) -> None:
    given = ["a", "b", "a"]
    base = await place.openai.embeddings.create(model=STATIC, input=given)
    floats = await place.openai.embeddings.create(model=STATIC, input=given, encoding_format="float")
    vectors = [each.embedding for each in base.data]
    assert vectors == [each.embedding for each in floats.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(part * part for part in vectors[0]) == pytest.approx(1)
    small = await place.openai.embeddings.create(model=STATIC, input=[1, 2], dimensions=3)
    assert [len(each.embedding) for each in small.data] == [3]
    with pytest.raises(openai.BadRequestError) as caught:
        await place.openai.embeddings.create(model=STATIC, input="a", dimensions=4096)
    assert caught.value.param == "dimensions"


async def test_an_upstream_without_an_endpoint_is_no_trouble_of_its_node(place: Place) -> None:
    for _ in range(6):
        with pytest.raises(openai.NotFoundError) as caught:
            await place.openai.completions.create(model=MODEL, prompt="r1 html status=404")
        assert caught.value.code == "unsupported_endpoint"
    assert (await place.openai.models.retrieve(MODEL)).model_dump()["workernode"]["state"] == "ready"


async def test_a_token_check_estimates_what_fits(place: Place) -> None:
    asked = [
        {"model": STATIC, "prompt": "x" * 200, "max_tokens": 50},
        {"model": "fixed", "prompt": "x" * 200, "max_tokens": 51},
        {"model": MODEL, "prompt": "", "max_tokens": 1},
    ]
    answer = await place.post("/api/v1/token_check", {"prompts": asked})
    assert json.loads(answer.body)["prompts"] == [
        {"fits": True, "tokenCount": 50, "contextLength": 100, "estimated": True},
        {"fits": False, "tokenCount": 50, "contextLength": 100, "estimated": True},
        {"fits": None, "tokenCount": 0, "contextLength": None, "estimated": True},
    ]
    for body, status, param in (
        ({}, 400, "prompts"),
        ({"prompts": []}, 400, "prompts"),
        ({"prompts": [{"model": STATIC}]}, 400, "prompts[0].prompt"),
        ({"prompts": [{"model": "unknown", "prompt": ""}]}, 404, "model"),
        ({"prompts": [{"prompt": "", "max_tokens": -1}]}, 400, "prompts[0].max_tokens"),
    ):
        refused = await place.post("/api/v1/token_check", body)
        assert (refused.status, refused.error["param"]) == (status, param), body


async def test_every_endpoint_is_charged_with_its_usage(fleet: InProcessFleet, tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        gateway = await fleet.gateway()
        await fleet.node(NODE_TYPE="remote", API_URL=upstream.url)
        management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
        await known(gateway, fleet.model)
        for path, body in (
            ("/v1/completions", {"model": fleet.model, "prompt": ["r1 tokens=2", "r2 tokens=2"]}),
            ("/v1/embeddings", {"model": fleet.model, "input": [[1, 2, 3], [4]]}),
            ("/v1/embeddings", {"model": fleet.model, "input": "no-usage aaaaaa"}),
        ):
            assert (await exchange(gateway.port, post(body, path=path))).status == 200
        found = sorted(await charges(management, 3), key=lambda charge: charge["time_ms"])
    assert [
        (each["endpoint"], each["prompt_tokens"], each["completion_tokens"], each["estimated"]) for each in found
    ] == [("completions", 4, 6, False), ("embeddings", 4, 0, False), ("embeddings", 4, 0, True)]


async def test_an_endpoint_that_no_node_of_the_model_serves_is_refused_at_once(fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway(MODELS=fleet.model)
    embedding = post({"model": fleet.model, "input": "a"}, path="/v1/embeddings")
    waiting = asyncio.ensure_future(exchange(gateway.port, embedding))
    await fleet.node(ENDPOINTS="embeddings")
    assert (await waiting).status == 200
    await known(gateway, fleet.model)
    answer = await exchange(gateway.port, post({"model": fleet.model, "prompt": "a"}, path="/v1/completions"))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "unsupported_endpoint", "model")
    assert answer.error["message"].endswith("It serves embeddings.")


async def test_a_node_refuses_what_its_engine_does_not_serve(fleet: InProcessFleet) -> None:
    gateway = await fleet.gateway(MODELS=fleet.model)
    embedding = post({"model": fleet.model, "input": "a"}, path="/v1/embeddings")
    waiting = asyncio.ensure_future(exchange(gateway.port, embedding))
    await fleet.node(ENDPOINTS="completions")
    answer = await waiting
    assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/images/generations", "/v1/rerank", "/v1/responses"])
async def test_what_is_not_served_is_a_404_that_names_what_is(place: Place, path: str) -> None:
    answer = await place.post(path, {"model": MODEL})
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert "/v1/chat/completions" in answer.error["message"]


async def test_the_openapi_document_has_every_endpoint(place: Place) -> None:
    document = json.loads((await exchange(place.port, get("/openapi.json"))).body)
    assert {
        "/v1/chat/completions",
        "/api/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/engines/{model}/embeddings",
        "/api/v1/token_check",
        "/v1/models",
        "/v1/models/{model}",
    } <= set(document["paths"])
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert len(document["components"]["schemas"]["CompletionRequest"]["properties"]["prompt"]["oneOf"]) == 4
    assert "event-stream" not in json.dumps(document["paths"]["/v1/embeddings"])
    for item in document["paths"].values():
        for operation in item.values():
            assert {"400", "500"} < set(operation["responses"])
            assert "default" not in operation["responses"]
