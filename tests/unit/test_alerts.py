"""Alerts are opened once, told once, and cleared by themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import select

import management.fleet.alerts
import management.fleet.webhook
from broker.memory import MemoryBroker, MemoryServer
from management.fleet.alerts import Watch, troubles
from management.fleet.nodes import NodeRegistry
from management.fleet.webhook import Teller, message
from management.metrics import Metrics
from process.identity import now_ms
from store import database
from store.alerts import Cause, claim, mark_told, untold
from store.database import reading, writing
from store.fleet_tables import ALERTS
from store.migrate import upgrade
from wire.presence import NodeState, Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.settings import WebhookFormat


def presence(
    node: str, state: NodeState = "quota_exhausted", model: str = "m", sentence: str | None = None
) -> Presence:
    return Presence(
        node=node,
        name=node,
        model=model,
        type="remote",
        version="1",
        state=state,
        sentence=sentence,
        provider="api.example",
        slots=1,
        sent_ms=1,
        started_ms=1,
    )


class Office:
    """One management's part in it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.broker = MemoryBroker(MemoryServer())
        self.registry = NodeRegistry(nodes_max=100)
        self.metrics = Metrics(CollectorRegistry())
        self.heard_at = asyncio.get_running_loop().time()
        self.watch = Watch(engine, self.broker, self.registry, self.metrics, lambda: self.heard_at)


class Hook:
    """A webhook that answers as it is told to."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[Any] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.got.append(await request.json())
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"location": "/elsewhere"} if status // 100 == 3 else {})


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.open(database_url)
    await upgrade(engine)
    yield engine
    await engine.dispose()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management.fleet.alerts, "PRESENCE_LOST_S", 0.0)
    monkeypatch.setattr(management.fleet.webhook, "TRIES_S", (0.0, 0.0, 0.0))


async def rows(engine: AsyncEngine) -> list[dict[str, Any]]:
    async with reading(engine) as connection:
        return [dict(row) for row in (await connection.execute(select(ALERTS).order_by(ALERTS.c.alert_id))).mappings()]


async def telling(engine: AsyncEngine, hook: Hook, format_: WebhookFormat = "generic", tellers: int = 1) -> None:
    """Tell all that is untold."""
    server = web.Server(hook)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = SecretStr(f"http://127.0.0.1:{runner.addresses[0][1]}/secret-path")
    try:
        made = [Teller(engine, Metrics(CollectorRegistry()), url, format_) for _ in range(tellers)]
        await asyncio.gather(*(teller.tell() for teller in made))
    finally:
        await runner.cleanup()


def test_nodes_with_one_trouble_have_it_together() -> None:
    found = troubles(
        [
            *(presence("node-a"), presence("node-b"), presence("node-c", "ready"), presence("node-d", "rate_limited")),
            presence("node-e", "misconfigured", sentence="Set MODEL_PATH."),
        ]
    )
    assert {cause: trouble.nodes for cause, trouble in found.items()} == {
        Cause("quota_exhausted", "m", "api.example"): 2,
        Cause("misconfigured", "m", "api.example"): 1,
    }
    assert found[Cause("misconfigured", "m", "api.example")].sentence == "Set MODEL_PATH."


def test_a_flood_of_forged_nodes_has_no_more_than_so_many_troubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management.fleet.alerts, "CAUSES_MAX", 2)
    found = troubles([presence(f"node-{number}", model=f"m{number % 4}") for number in range(12)])
    assert {cause.model: trouble.nodes for cause, trouble in found.items()} == {"m0": 3, "m1": 3}


async def test_two_managements_open_one_alert_and_it_clears_when_the_node_has_recovered(engine: AsyncEngine) -> None:
    one, two = Office(engine), Office(engine)
    for office in (one, two):
        office.registry.hear(presence("node-a"))
    await asyncio.gather(one.watch.look(), two.watch.look())
    (row,) = await rows(engine)
    assert (row["code"], row["nodes"], row["cleared_ms"]) == ("quota_exhausted", 1, None)
    assert one.metrics.registry.get_sample_value("management_alerts_open", {"code": "quota_exhausted"}) == 1

    for office in (one, two):
        office.registry.hear(presence("node-a", "ready"))
    await asyncio.gather(one.watch.look(), two.watch.look())
    (row,) = await rows(engine)
    assert row["cleared_ms"] is not None
    assert one.metrics.registry.get_sample_value("management_alerts_open", {"code": "quota_exhausted"}) == 0

    one.registry.hear(presence("node-a"))
    await one.watch.look()
    assert [row["cleared_ms"] is None for row in await rows(engine)] == [False, True]


@pytest.mark.parametrize("state", ["ready", "rate_limited"])
async def test_a_model_that_is_paused_has_not_recovered(engine: AsyncEngine, state: NodeState) -> None:
    office = Office(engine)

    async def is_over(*presences: Presence) -> bool:
        for each in presences:
            office.registry.hear(each)
        await office.watch.look()
        (row,) = await rows(engine)
        is_open = office.metrics.registry.get_sample_value("management_alerts_open", {"code": "quota_exhausted"})
        assert is_open == (row["cleared_ms"] is None)
        return row["cleared_ms"] is not None

    assert not await is_over(presence("node-a"))
    assert not await is_over(presence("node-a", "paused"))
    assert not await is_over(presence("node-a"))
    assert await is_over(presence("node-a", "paused"), presence("node-b", state))


async def test_who_hears_nobody_clears_nothing(engine: AsyncEngine) -> None:
    office = Office(engine)
    office.registry.hear(presence("node-a"))
    await office.watch.look()
    other = Office(engine)
    other.heard_at = float("-inf")  # it has just started, or its broker is away
    await other.watch.look()
    assert (await rows(engine))[0]["cleared_ms"] is None
    other.heard_at = asyncio.get_running_loop().time()  # and so now only other nodes are there
    await other.watch.look()
    assert (await rows(engine))[0]["cleared_ms"] is not None


async def test_who_has_heard_nobody_for_a_while_waits_for_all_nodes_before_it_clears_anything(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    office, loop = Office(engine), asyncio.get_running_loop()
    office.registry.hear(presence("node-a"))
    await office.watch.look()
    monkeypatch.setattr(management.fleet.alerts, "PRESENCE_LOST_S", 50.0)
    office.watch._hears_since = loop.time() - 100  # it has been there for long
    office.heard_at = float("-inf")
    await office.watch.look()
    office.registry.hear(presence("node-a", "stopped"))  # its heartbeat is not heard again yet
    office.heard_at = loop.time()
    await office.watch.look()
    assert (await rows(engine))[0]["cleared_ms"] is None
    office.watch._hears_since = loop.time() - 100
    await office.watch.look()
    assert (await rows(engine))[0]["cleared_ms"] is not None


async def test_each_of_two_tellers_tells_something_else(engine: AsyncEngine) -> None:
    office, hook = Office(engine), Hook()
    for model in ("m", "n", "o"):
        office.registry.hear(presence(f"node-{model}", model=model))
    await office.watch.look()
    await telling(engine, hook, tellers=2)
    await telling(engine, hook)
    assert sorted(got["alert"]["model"] for got in hook.got) == ["m", "n", "o"]
    assert {got["type"] for got in hook.got} == {"alert.opened"}
    assert {row["telling"] for row in await rows(engine)} == {"yes"}


async def test_what_somebody_else_tells_or_has_told_is_left_to_them(engine: AsyncEngine) -> None:
    office, hook = Office(engine), Hook()
    for model in ("m", "n"):
        office.registry.hear(presence(f"node-{model}", model=model))
    await office.watch.look()
    now = now_ms()
    async with reading(engine) as connection:
        first, second = await untold(connection, now)
    async with writing(engine) as connection:
        assert await claim(connection, first, now, now + 60_000)
        assert not await claim(connection, first, now + 1, now + 120_000)
        await mark_told(connection, second["alert_id"], "opened", "yes")
        assert not await claim(connection, second, now + 1, now + 60_000), "it was told since it was read"
    async with asyncio.timeout(10):
        await telling(engine, hook)
    assert hook.got == []
    async with reading(engine) as connection:
        assert [row["alert_id"] for row in await untold(connection, now + 60_001)] == [first["alert_id"]]


async def test_an_alert_that_came_and_went_is_told_in_order(engine: AsyncEngine) -> None:
    office, hook = Office(engine), Hook()
    office.registry.hear(presence("node-a"))
    await office.watch.look()
    office.registry.hear(presence("node-a", "ready"))
    await office.watch.look()
    await telling(engine, hook)
    assert [got["type"] for got in hook.got] == ["alert.opened", "alert.cleared"]


@pytest.mark.parametrize(
    ("statuses", "posts", "told"),
    [
        ((200,), 1, "yes"),
        ((503, 429, 200), 3, "yes"),
        ((500, 500, 500, 200), 3, "failed"),
        ((404,), 1, "failed"),
        ((307,), 1, "failed"),  # followed, it would carry the alert elsewhere
    ],
)
async def test_a_webhook_is_tried_so_often_and_no_more(
    engine: AsyncEngine, statuses: tuple[int, ...], posts: int, told: str
) -> None:
    office, hook = Office(engine), Hook(*statuses)
    office.registry.hear(presence("node-a"))
    await office.watch.look()
    await telling(engine, hook)
    await telling(engine, hook)
    assert len(hook.got) == posts
    assert (await rows(engine))[0]["telling"] == told


async def test_without_a_webhook_nobody_is_told_and_the_alert_stands(engine: AsyncEngine) -> None:
    office = Office(engine)
    office.registry.hear(presence("node-a"))
    await office.watch.look()
    await Teller(engine, office.metrics, None, "generic").tell()
    assert [(row["telling"], row["cleared_ms"]) for row in await rows(engine)] == [("nobody", None)]
    office.registry.hear(presence("node-a", "ready"))
    await office.watch.look()
    assert [row["telling"] for row in await rows(engine)] == ["not yet"], "its end is another thing to tell"


def test_what_slack_is_told_calls_nobody_and_links_nowhere() -> None:
    alert = {
        "alert_id": 1,
        "code": "misconfigured",
        "model": "<!channel>",
        "provider": "",
        "sentence": "See <https://evil.example|this> & that\nnow",
        "nodes": 2,
        "opened_ms": 1,
        "cleared_ms": None,
    }
    text = message(alert, "opened", "slack")["text"]
    assert "&lt;!channel&gt;" in text
    assert "<" not in text
    assert "2 nodes" in text
    assert "is over" in message(alert, "cleared", "slack")["text"]
