"""When the model server takes its steps for stuck."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from workernode.local.server.front.client import StepClient
from workernode.local.server.front.problem import Problem
from workernode.local.server.pipe import framed
from workernode.local.server.words import Embed, Ended, Figures, Piece, Refusal, Sampling, Submit, Vectors

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
async def client() -> StepClient:
    flags: Any = SimpleNamespace(stuck_s=-1.0, max_batch=2, waiting_max=2)  # whoever works is late at once
    return StepClient(flags)


def generation(number: int) -> Submit:
    return Submit(number, [1], Sampling(max_tokens=1), choices=2)


def embedding(number: int) -> Embed:
    return Embed(number, [[1]])


async def test_a_client_that_reads_slowly_is_no_step_that_hangs(client: StepClient) -> None:
    async with client.call() as call:
        number = call.submit(generation)
        for choice in range(2):
            client._pass(Piece(number, choice, "a", 1))
            assert client.is_stuck
            client._pass(Piece(number, choice, "", 1, finish_reason="stop"))
        # All is there, and on its way to the client.
        assert client.open_calls == 1
        assert not client.is_stuck


@pytest.mark.parametrize("make", [generation, embedding])
async def test_a_refusal_and_a_client_that_goes_leave_nothing_to_wait_for(
    client: StepClient, make: Callable[[int], Submit | Embed]
) -> None:
    async with client.call() as call:
        client._pass(Refusal(call.submit(make), "server_error", "No.", 500))
        assert not client.is_stuck
        call.submit(make)
        assert client.is_stuck
    assert not client.is_stuck


async def test_one_more_than_may_wait_is_refused_until_a_place_is_free(client: StepClient) -> None:
    async with AsyncExitStack() as calls:
        for _ in range(3):
            await calls.enter_async_context(client.call())
        async with client.call():
            with pytest.raises(Problem) as raised:
                await calls.enter_async_context(client.call())
            assert (raised.value.code, raised.value.status) == ("overloaded", 503)
        await calls.enter_async_context(client.call())
    assert client.open_calls == 0
    assert client.idle.is_set()


async def test_vectors_are_all_that_an_embedding_waits_for(client: StepClient) -> None:
    async with client.call() as call:
        client._pass(Vectors(call.submit(embedding), [b""]))
        assert not client.is_stuck


async def test_the_last_word_of_the_steps_counts_whether_or_not_their_process_comes_to_its_end(
    client: StepClient,
) -> None:
    """A driver may keep it from that: nobody would be told why, and nothing new would be started."""
    reader = asyncio.StreamReader()
    async with client.call() as call:
        call.submit(generation)
        reader.feed_data(framed([Figures(), Ended("internal", "The GPU has failed.")], msgspec.msgpack.Encoder()))
        async with asyncio.timeout(5):
            assert await client._listen(reader, lambda _: None) == Ended("internal", "The GPU has failed.")
            with pytest.raises(Problem, match="The model server ended"):
                await call.word()
