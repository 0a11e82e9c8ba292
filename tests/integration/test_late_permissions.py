"""Roles that are started before the broker gives them what they need: they wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

import broker.reaching
from broker.interface import BrokerError, BrokerForbidden, BrokerUnavailable, TopicMissing
from broker.memory import MemoryBroker, MemoryServer
from broker.reaching import Reach, Stopped
from tests.fake_upstream import FakeUpstream
from tests.in_process import InProcessFleet
from tests.passing_broker import PassingBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Consumer, Kind, Listener, Producer


class Reluctant(PassingBroker):
    """Refuses whatever it is asked for the first time, and lets it at the second one."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(MemoryBroker(server))
        self.refused: set[tuple[str, str]] = set()
        self.heard: list[str] = []
        """The topics that are listened to, once for each time."""

    def _refuse_once(self, doing: str, topic: str) -> None:
        if (doing, topic) not in self.refused:
            self.refused.add((doing, topic))
            raise BrokerForbidden(f"{doing} at {topic} was refused: the token gives no permission.")

    async def connect(self) -> None:
        self._refuse_once("connect", "")
        await super().connect()

    async def ensure(self, topic: str, subscription: str) -> None:
        await super().ensure(topic, subscription)

    async def producer(self, topic: str, *, gather_ms: int = 0) -> Producer:
        self._refuse_once("produce", topic)
        return await super().producer(topic, gather_ms=gather_ms)

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> Consumer:
        self._refuse_once("consume", topic)
        return await super().consumer(topic, subscription, kind, prefetch=prefetch, from_earliest=from_earliest)

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> Listener:
        self._refuse_once("listen", topic)
        self.heard.append(topic)
        listener = await super().listen(topic, hear, waiting_max=waiting_max, gathers=gathers)
        close = listener.aclose

        async def forget() -> None:
            self.heard.remove(topic)
            await close()

        listener.aclose = forget  # type: ignore[method-assign]
        return listener


async def test_roles_wait_for_each_permission_and_listen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.reaching, "AGAIN_S", 0.01)
    server = MemoryServer()
    brokers: list[Reluctant] = []

    def reluctant() -> Reluctant:
        brokers.append(Reluctant(server))
        return brokers[-1]

    async with FakeUpstream() as upstream:
        env = {
            "NODE_TYPE": "remote",
            "MODEL_NAME": "m",
            "MODELS": "m",
            "API_URL": upstream.url,
            "API_KEY": "sk-test-key",
        }
        fleet = InProcessFleet(reluctant, env)
        gateway = await fleet.gateway()
        await fleet.node()
        gateway_broker, node_broker = brokers
        assert {doing for doing, _ in gateway_broker.refused} == {"connect", "produce", "listen"}
        assert {doing for doing, _ in node_broker.refused} == {"connect", "produce", "consume", "listen"}
        for each in brokers:
            assert len(each.heard) == len(set(each.heard)), "a listener was left over"
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{gateway.url}/v1/chat/completions", json=body) as response,
        ):
            assert response.status == 200, await response.text()
        await fleet.aclose()


async def test_a_reason_is_told_once_and_forgotten_with_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.reaching, "AGAIN_S", 0.01)
    said: list[str] = []
    reach = Reach(said.append, asyncio.Event())
    reasons = ["No.", "No.", "Not yet."]

    async def step() -> str:
        if reasons:
            raise BrokerForbidden(reasons.pop(0))
        assert reach.why == "Not yet. Check PULSAR_TOKEN."
        return "opened"

    assert await reach(step) == "opened"
    assert said == ["No. Check PULSAR_TOKEN.", "Not yet. Check PULSAR_TOKEN."]
    assert reach.why == ""


@pytest.mark.parametrize(
    ("error", "setting"),
    [
        (BrokerUnavailable, ["PULSAR_URL"]),
        (BrokerForbidden, ["PULSAR_TOKEN"]),
        (TopicMissing, ["PULSAR_TENANT"]),
        (BrokerError, []),
    ],
)
async def test_a_reason_comes_with_the_setting_that_may_be_wrong(error: type[BrokerError], setting: list[str]) -> None:
    said: list[str] = []
    end = asyncio.Event()

    async def step() -> None:
        end.set()
        raise error("No.")

    with pytest.raises(Stopped):
        await Reach(said.append, end)(step)
    assert [name for name in ("PULSAR_URL", "PULSAR_TOKEN", "PULSAR_TENANT") if name in said[0]] == setting


async def test_nobody_waits_after_the_end() -> None:
    end = asyncio.Event()

    async def step() -> None:
        end.set()
        raise BrokerForbidden("No.")

    with pytest.raises(Stopped):
        await Reach(lambda _: None, end)(step)
