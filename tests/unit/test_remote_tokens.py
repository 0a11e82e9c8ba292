"""Tokens are counted by the model's own tokenizer where there is one, else by length; both say so."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from management.ledger.facts import fact_of
from tests import word_tokenizer
from tests.billing import billed
from tests.recordings import JSON, PLAIN, Recording, chunk, events, whole
from tests.remote_engine import Recorder, job, raw_server, started
from wire.usage import REQUEST_TOKENS_MAX, Usage
from workernode.engine import EngineUnusable
from workernode.outcome import Answered
from workernode.remote.tokens import ByLength, token_counter
from workernode.remote.usage import total, usage_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return word_tokenizer.written(tmp_path)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


CHAT = body(messages=[{"role": "user", "content": "one two three"}, {"role": "user", "content": [{"text": "four"}]}])


@pytest.mark.parametrize(
    ("request_body", "by_tokenizer", "by_length"),
    [
        (CHAT, 4 + 2 * 4, -(-17 // 4)),
        (body(prompt="one two three"), 3, 4),
        (body(prompt=["one two", "three"]), 3, 3),
        (body(prompt=[5, 6, 7]), 3, 3),
        (body(input=[[5, 6], [7]]), 3, 3),
        (body(messages=[]), 1, 1),
    ],
)
def test_prompts_are_counted(tokenizer: str, request_body: bytes, by_tokenizer: int, by_length: int) -> None:
    assert token_counter(tokenizer).prompt(request_body) == by_tokenizer
    assert token_counter("").prompt(request_body) == by_length


def test_answers_are_counted_as_one_text_however_they_were_cut(tokenizer: str) -> None:
    assert token_counter(tokenizer).answer(["Hel", "lo wor", "ld again"], 0) == 3
    assert ByLength().answer((), 17) == 5


def test_a_text_is_counted_as_a_prompt_with_the_token_that_begins_it(tokenizer: str) -> None:
    assert token_counter(tokenizer).texts(["one two three", "", "größe 🦙"]) == [4, 1, 3]


async def test_an_engine_counts_by_a_tokenizer_and_not_by_length(tokenizer: str) -> None:
    async with started("http://127.0.0.1:9", tokenizer=tokenizer) as engine:
        assert engine.details.counts
        assert await engine.count(["one two", ""]) == [3, 1]
    async with started("http://127.0.0.1:9") as engine:
        assert not engine.details.counts
        assert await engine.count(["one two"]) is None


@pytest.mark.parametrize("path", ["/nowhere/tokenizer.json", __file__, "/"])
def test_a_tokenizer_that_cannot_be_read_makes_the_node_unusable_with_a_sentence(path: str) -> None:
    with pytest.raises(EngineUnusable, match="TOKENIZER is no file"):
        token_counter(path)


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EngineUnusable, match="extra 'tokenizer'"):
        token_counter("x.json")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_figures_is_counted_by_the_tokenizer_and_marked(tokenizer: str, stream: bool) -> None:
    streamed = Recording("", events(*PLAIN[:-1]))
    given = (
        streamed if stream else Recording("", whole({"role": "assistant", "content": "Hello world"}, usage=None), JSON)
    )
    reply = f"HTTP/1.1 200 OK\r\ncontent-type: {given.media_type}\r\nconnection: close\r\n\r\n".encode() + given.body
    async with raw_server(reply) as url, started(url, tokenizer=tokenizer) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("one two three", stream=stream, usage_asked=stream), answer)
    assert isinstance(outcome, Answered)
    assert outcome.usage == Usage(prompt_tokens=3 + 4, completion_tokens=2, estimated=True)
    shown = answer.chunks[-1]["usage"] if stream else answer.whole["usage"]
    assert shown == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


async def test_the_providers_own_figures_count_before_any_tokenizer(tokenizer: str) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + events(*PLAIN)
    async with raw_server(reply) as url, started(url, tokenizer=tokenizer) as engine:
        outcome = await engine.answer(job("one", stream=True), Recorder())
    assert isinstance(outcome, Answered)
    assert outcome.usage == Usage(prompt_tokens=9, completion_tokens=3)


def test_one_estimate_makes_a_sum_one() -> None:
    exact = Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=1, reasoning_tokens=1)
    assert total([exact, exact]) == Usage(prompt_tokens=2, completion_tokens=4, cached_tokens=2, reasoning_tokens=2)
    assert total([exact, Usage(estimated=True)]).estimated


@pytest.mark.parametrize("calls", [1, 3])
def test_whatever_a_provider_counts_the_ledger_takes_the_charge(calls: int) -> None:
    given = msgspec.Raw(b'{"prompt_tokens":%d,"completion_tokens":%d}' % (REQUEST_TOKENS_MAX + 1, REQUEST_TOKENS_MAX))
    used = total([usage_of(given, text_chars=4, body=CHAT) for _ in range(calls)])
    assert fact_of(billed(1, usage=used)).charge is not None
    assert used.estimated


def test_the_texts_of_an_answer_are_kept_for_a_tokenizer_alone() -> None:
    from workernode.remote.chunk import Chunks, identity

    own = identity(answer_id="a", created_s=1, model="m")
    for keep_text in (False, True):
        chunks = Chunks(own, usage_asked=False, keep_text=keep_text)
        chunks.take([json.dumps(chunk({"role": "assistant", "content": "Hello"})).encode()])
        assert chunks.texts == (["Hello"] if keep_text else [])
