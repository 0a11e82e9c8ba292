"""The first page tells what waits for a person, and nothing else."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest

from broker.memory import MemoryBroker
from process.identity import now_ms
from tests.counting_house import CountingHouse
from tests.waiting import until
from wire import codec
from wire.event import RequestData
from wire.presence import Presence
from wire.usage import TOKENS_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from wire.event import RequestEventType

DAY_MS = 86_400_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[CountingHouse]:
    made = CountingHouse(tmp_path)
    await made.start()
    yield made
    await made.end()


async def tell(house: CountingHouse, kind: RequestEventType, number: int, time_ms: int) -> None:
    """An event about a dead letter."""
    id_ = f"req_dead{number}"
    data = RequestData(request_id=id_, endpoint="chat/completions", model="m", status="dead", message="x")
    await house.publish(codec.encode_told(kind, f"{kind}-{id_}", "/node-a", id_, data, time_ms))
    await house.settled()


async def text_of(house: CountingHouse, path: str) -> str:
    status, page = await house.get(path)
    assert status == 200, path
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def test_dead_letters_wait_until_they_are_discarded_however_old_they_are(house: CountingHouse) -> None:
    await tell(house, "request.dead", 1, now_ms())
    assert "1 request took three nodes along, and waits for you." in await text_of(house, "/")
    await tell(house, "request.discarded", 1, now_ms())
    assert "All well" in await text_of(house, "/")
    for number in (2, 3):
        await tell(house, "request.dead", number, now_ms() - 2 * DAY_MS)
    assert "2 requests took three nodes along, and wait for you." in await text_of(house, "/")


async def test_a_node_that_tells_of_a_time_beyond_all_days_hides_no_page(house: CountingHouse) -> None:
    presence = Presence(
        node="n_12345678",
        name="third",
        model="m",
        type="remote",
        version="1",
        state="unreachable",
        sentence="It is so.",
        slots=1,
        sent_ms=now_ms(),
        started_ms=TOKENS_MAX,
        since_ms=TOKENS_MAX,
        until_ms=TOKENS_MAX,
    )
    broker = MemoryBroker(house.server)
    producer = await broker.producer(house.topics.presence)
    await producer.send(codec.encode(presence))

    async def known() -> bool:
        return "third" in await text_of(house, "/nodes")

    await until(known)
    for path in ("/", "/models", "/errors"):
        await text_of(house, path)
    await broker.aclose()
