"""Prompts are counted by a node of their model, exactly and beside its requests; what none counts is estimated."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tokenizers import Tokenizer

import gateway.token_questions
from broker.memory import MemoryBroker, MemoryServer
from tests import word_tokenizer
from tests.fake_upstream import FakeUpstream, oracle_text
from tests.in_process import InProcessFleet
from tests.integration.test_local_engine import local
from tests.integration.test_main_job import asked, charges, client_of, known, whole
from tests.raw_http import exchange, post
from tests.waiting import until
from wire import codec
from wire.control import COUNT_BYTES_MAX, ControlMessage, CountTokens
from wire.piece import Counted, LinkMessage
from wire.presence import RollCall
from wire.topics import Topics
from workernode.remote.engine import RemoteEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.in_process import Running
    from tests.local_model import LocalModel

__all__ = ["local"]

NOWHERE = "http://127.0.0.1:9/v1"
PROMPT = "How many words are these?"
WORDS = 7
"""Tokens of that, as the tokenizer has them: the question mark is one, and so is the begin."""


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return word_tokenizer.written(tmp_path)


class Holding:
    """Nodes that count begin when they may, and are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.may = asyncio.Event()
        count = RemoteEngine.count

        async def held(engine: RemoteEngine, prompts: Sequence[str]) -> list[int] | None:
            self.begun += 1
            await self.may.wait()
            return await count(engine, prompts)

        monkeypatch.setattr(RemoteEngine, "count", held)


@pytest.fixture
async def holding(monkeypatch: pytest.MonkeyPatch) -> Holding:
    return Holding(monkeypatch)


async def counting(fleet: InProcessFleet, tokenizer: str, **env: str) -> tuple[Running, Running]:
    """A gateway, and a node that it knows to count."""
    running = await fleet.gateway()
    node = await fleet.node(**{"NODE_TYPE": "remote", "API_URL": NOWHERE, "TOKENIZER": tokenizer, **env})
    await known(running, node.model)
    return running, node


async def checked(running: Running, *prompts: dict[str, Any]) -> list[dict[str, Any]]:
    """What the gateway says of each prompt."""
    answer = await exchange(running.port, post({"prompts": prompts}, path="/api/v1/token_check"))
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = json.loads(answer.body)["prompts"]
    return found


async def figure(running: Running, model: str, prompt: str = PROMPT) -> tuple[int, bool]:
    """The count of one prompt, and whether it is an estimate."""
    (found,) = await checked(running, {"model": model, "prompt": prompt})
    return found["tokenCount"], found["estimated"]


ESTIMATE = (-(-len(PROMPT) // 4), True)


async def test_prompts_are_counted_exactly_as_their_models_tokenizer_does_it(
    fleet: InProcessFleet, tokenizer: str
) -> None:
    running, node = await counting(fleet, tokenizer, CONTEXT_LENGTH="4")
    static = await fleet.node(MODEL_NAME="static")
    await known(running, static.model)
    oracle = Tokenizer.from_file(tokenizer)
    oracle.no_truncation()
    texts = ["one two three", "", "größe 🦙, " * 3000, "a\x00b"]
    exact = [len(oracle.encode(text).ids) for text in texts]
    prompts: list[dict[str, Any]] = [{"model": node.model, "prompt": text} for text in texts]
    prompts.insert(1, {"model": static.model, "prompt": "x" * 9})
    prompts.append({"model": node.model, "prompt": "one two three", "max_tokens": 1})
    found = await checked(running, *prompts)
    assert found.pop(1) == {"fits": None, "tokenCount": 3, "contextLength": None, "estimated": True}
    assert [each["tokenCount"] for each in found] == [*exact, 4]
    assert not any(each["estimated"] for each in found)
    assert [each["fits"] for each in found] == [True, True, False, True, False]


async def test_to_count_takes_no_slot_waits_for_none_and_is_charged_to_nobody(
    fleet: InProcessFleet, tokenizer: str, tmp_path: Path
) -> None:
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    async with FakeUpstream() as upstream:
        running, node = await counting(fleet, tokenizer, API_URL=upstream.url, MAX_PROCESS_NUM="1")
        async with client_of(running) as client:
            upstream.may_answer.clear()
            answers = asyncio.gather(*(whole(client, node.model, "r1") for _ in range(2)))
            await upstream.until(lambda provider: provider.running == 1)
            assert await figure(running, node.model) == (WORDS, False)
            assert len(upstream.requests) == 1, "one has the slot, and the other waits for it"
            upstream.may_answer.set()
            assert await answers == [oracle_text(asked(node.model, "r1"))] * 2
        assert len(upstream.requests) == 2
    assert len(await charges(management, 2)) == 2


async def test_what_is_not_counted_in_time_is_estimated_and_holds_up_nothing(
    fleet: InProcessFleet, tokenizer: str, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeUpstream() as upstream:
        running, node = await counting(fleet, tokenizer, API_URL=upstream.url)
        asking = asyncio.ensure_future(figure(running, node.model))
        await until(lambda: holding.begun)
        async with client_of(running) as client:
            assert await whole(client, node.model, "r1") == oracle_text(asked(node.model, "r1"))
        monkeypatch.setattr(gateway.token_questions, "COUNT_WAIT_S", 0.2)
        assert await figure(running, node.model) == ESTIMATE
        monkeypatch.undo()
        assert not asking.done()
        holding.may.set()
        assert await asking == (WORDS, False)
        assert await figure(running, node.model) == (WORDS, False)


async def test_a_node_that_dies_while_it_counts_leaves_an_estimate(
    fleet: InProcessFleet, tokenizer: str, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.token_questions, "COUNT_WAIT_S", 1.0)
    running, node = await counting(fleet, tokenizer)
    asking = asyncio.ensure_future(figure(running, node.model))
    await until(lambda: holding.begun)
    await node.kill()
    assert await asking == ESTIMATE


class Overheard:
    """What is said to a node, and how to answer in its place."""

    def __init__(self, running: Running, topics: Topics) -> None:
        self._broker, self._topics = running.broker, topics
        self._presences: list[bytes] = []
        self._said: list[bytes] = []

    async def listen(self) -> None:
        await self._broker.listen(self._topics.presence, self._presences.append, waiting_max=100)

    async def node(self) -> str:
        """The incarnation of the one node; from here on it is listened to as well."""
        payload = (await until(lambda: self._presences))[0]
        node = codec.decode_presence(payload).node
        await self._broker.listen(self._topics.control(node), self._said.append, waiting_max=100)
        return node

    @property
    def questions(self) -> list[tuple[str, CountTokens]]:
        """With the gateways that asked."""
        messages = [codec.decode_control(payload) for payload in self._said]
        words = [
            (message.sender, codec.decode_word(raw))
            for message in messages
            if isinstance(message, ControlMessage)
            for raw in message.words
        ]
        return [(sender, word) for sender, word in words if isinstance(word, CountTokens)]

    async def answer(self, sender: str, node: str, *answers: Counted) -> None:
        """Say this to the gateway as if it came from that node."""
        frames = [msgspec.Raw(codec.encode_frame(answer)) for answer in answers]
        producer = await self._broker.producer(self._topics.link(sender))
        await producer.send(codec.encode(LinkMessage(node=node, line=1, first=1, frames=frames)))
        await producer.aclose()


@pytest.fixture
async def overheard(fleet: InProcessFleet) -> Overheard:
    from gateway.settings import GatewaySettings
    from process.settings import load

    listening = await fleet.gateway()
    heard = Overheard(listening, load(GatewaySettings, fleet._common).topics)
    await heard.listen()
    return heard


async def test_answers_of_nodes_that_were_not_asked_are_ignored(
    fleet: InProcessFleet, tokenizer: str, holding: Holding, overheard: Overheard
) -> None:
    running, node = await counting(fleet, tokenizer)
    await overheard.node()
    asking = asyncio.ensure_future(figure(running, node.model))
    await until(lambda: overheard.questions)
    ((sender, question),) = overheard.questions
    forged = Counted(question_id=question.question_id, tokens=[1])
    await overheard.answer(sender, "node-forged", forged, Counted(question_id="qst_of_nobody", tokens=[2]))
    # When a second answer has come through, so has the first.
    holding.may.set()
    assert await asking == (WORDS, False)


async def test_a_question_above_its_limit_is_not_asked(
    fleet: InProcessFleet, tokenizer: str, overheard: Overheard
) -> None:
    running, node = await counting(fleet, tokenizer)
    await overheard.node()
    largest = "ö " * (COUNT_BYTES_MAX // 3)
    assert await figure(running, node.model, largest) == (COUNT_BYTES_MAX // 3 + 1, False)
    assert await figure(running, node.model, f"{largest}ö ") == (-(-(len(largest) + 2) // 4), True)
    assert len(overheard.questions) == 1


@pytest.fixture
async def embedded() -> AsyncIterator[InProcessFleet]:
    """What a local model counts is the same over any broker."""
    server = MemoryServer()
    started = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": "m"})
    yield started
    await started.aclose()


async def counts(running: Running) -> bool:
    """Whether the one node says that it does, when the roll is called."""
    topics = Topics()
    heard: list[bytes] = []
    await running.broker.listen(topics.presence, heard.append, waiting_max=100)
    producer = await running.broker.producer(topics.roll_call)
    await producer.send(codec.encode(RollCall(sender="somebody")))
    await until(lambda: heard)
    return codec.decode_presence(heard[0]).counts


@pytest.mark.parametrize("engine", ["llama-server", "llamafile", "vllm"])
async def test_a_local_model_is_asked_by_its_servers_own_form(
    local: LocalModel, embedded: InProcessFleet, engine: str
) -> None:
    running, node = await embedded.gateway(), await embedded.node(**local.program(engine))
    await known(running, node.model)
    assert await counts(running)
    assert await figure(running, node.model) == (6, False)
    assert await figure(running, node.model, "") == (1, False)


@pytest.mark.parametrize(("engine", "kind"), [("llamafile", "old"), ("vllm", "none"), ("command", "")])
async def test_what_a_local_server_does_not_tell_as_asked_is_estimated(
    local: LocalModel, embedded: InProcessFleet, engine: str, kind: str
) -> None:
    local.say("tokenize", kind)
    settings = local.command() if engine == "command" else local.program(engine)
    running, node = await embedded.gateway(), await embedded.node(**settings)
    await known(running, node.model)
    assert not await counts(running)
    assert await figure(running, node.model) == ESTIMATE


async def test_any_command_is_counted_for_by_the_tokenizer_that_is_set(
    local: LocalModel, embedded: InProcessFleet, tokenizer: str
) -> None:
    running, node = await embedded.gateway(), await embedded.node(**local.command(), TOKENIZER=tokenizer)
    await known(running, node.model)
    assert await figure(running, node.model) == (WORDS, False)


async def test_the_engine_that_follows_a_dead_one_counts(local: LocalModel, embedded: InProcessFleet) -> None:
    running, node = await embedded.gateway(), await embedded.node(**local.program("vllm"))
    await known(running, node.model)
    local.kill()

    async def counted_again() -> bool:
        return len(local.starts) == 2 and await figure(running, node.model) == (6, False)

    await until(counted_again, within_s=20)
