"""Which client of the client library is in use, with clients that answer as a test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from broker.interface import Kind
from broker.pulsar import PulsarLimits
from broker.pulsar.client import _steady
from broker.pulsar.credential import Credential
from broker.pulsar.library import Library
from broker.pulsar.prefetching_consumer import PrefetchingConsumer

TOPIC = "persistent://public/default/topic"


class FakeClient:
    """Answers one question after the other as it was told to."""

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)
        self.inbox = SimpleNamespace(put=lambda call, *values: call(*values))
        self.closed = False

    async def answers(self, topic: str) -> bool:
        assert topic == TOPIC
        return self._answers.pop(0)

    async def open_consumer(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(is_connected=lambda: True, close_async=lambda done: None)

    async def aclose(self) -> None:
        self.closed = True


def library(*clients: FakeClient) -> Library:
    waiting = list(clients)
    return Library(lambda: cast("Any", waiting.pop(0)))


@pytest.mark.parametrize(
    ("old", "fresh", "answers", "kept"),
    [
        pytest.param([True], None, True, True, id="answers"),
        pytest.param([False, True], [True], True, True, id="only paused"),
        pytest.param([False, True], [False], True, True, id="slow"),
        pytest.param([False, False], [False], False, True, id="no broker"),
        pytest.param([False, False], [True], True, False, id="fell silent"),
    ],
)
async def test_only_a_client_that_alone_is_silent_is_replaced(
    old: list[bool], fresh: list[bool] | None, answers: bool, kept: bool
) -> None:
    first = FakeClient(*old)
    others = [] if fresh is None else [FakeClient(*fresh)]
    held = library(first, *others)
    assert await held.answers(TOPIC) is answers
    assert (cast("Any", held.client) is first) is kept
    in_use = cast("Any", held.client)
    assert not in_use.closed
    await held.aclose()
    assert all(client.closed for client in (first, *others))


async def test_what_a_replaced_client_opened_is_to_be_opened_anew() -> None:
    held = library(FakeClient(False, False), FakeClient(True))
    make_sure = AsyncMock()
    broker = cast("Any", SimpleNamespace(members=set(), limits=PulsarLimits(), make_sure=make_sure))
    consumer = PrefetchingConsumer(broker, held, TOPIC, "ledger", Kind.FAILOVER, 10)
    await consumer.join()
    make_sure.assert_awaited_once_with(TOPIC, "ledger", from_earliest=True)
    assert consumer.connected
    assert consumer.returns_by_itself
    await held.answers(TOPIC)
    assert not consumer.connected
    assert not consumer.returns_by_itself
    await consumer.join()
    assert consumer.connected
    await held.aclose()


def test_a_token_that_cannot_be_read_is_the_last_one() -> None:
    """The library asks from a thread of C++, where an exception would end the process."""
    tokens = iter(["first"])
    read = _steady(Credential(token=lambda: next(tokens), tls_trust_certs=None))
    assert [read(), read()] == ["first", "first"]
