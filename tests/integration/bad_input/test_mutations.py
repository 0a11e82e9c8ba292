"""Whatever becomes of a good body on its way: its sender hears what is wrong, nothing stays, the next one is served."""

from __future__ import annotations

import gc
import json
import re
from random import Random
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.integration.bad_input.mutation import CORPUS, mutated
from tests.integration.bad_input.place import ERROR_BYTES_MAX
from tests.integration.bad_input.rows import MODEL
from tests.raw_http import Answer, exchange, get, post
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.in_process import Running
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES_MAX = 60
BODIES = 240
ROUNDS = 4
OBJECTS_PER_REQUEST_MAX = 0.5
RSS_GROWTH_BYTES_MAX = 16 * 1024 * 1024


def judge(answer: Answer) -> None:
    """An answer, or an error of the client's in OpenAI's shape."""
    assert answer.status < 500, answer
    assert answer.whole
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    if answer.status >= 400:
        assert len(answer.body) <= ERROR_BYTES_MAX
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["message"]
    elif answer.headers["content-type"] == "application/json":
        json.loads(answer.body)
    else:
        assert answer.events[-1] == "[DONE]" or set(answer.events[-1]) == {"error"}


@pytest.mark.parametrize("path", CORPUS)
@given(random=st.randoms(use_true_random=False))
@settings(
    max_examples=EXAMPLES_MAX,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_changed_body_is_answered_or_refused(place: Place, path: str, random: Random) -> None:
    judge(await exchange(place.port, post(mutated(random, random.choice(CORPUS[path])), path=path)))
    await place.serves()


async def test_nothing_stays_of_changed_bodies(tmp_path: Path) -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": MODEL})
    try:
        gateway = await fleet.gateway(MODELS=MODEL)
        await fleet.node()
        await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")  # else charges would pile up in the broker
        paths = list(CORPUS)
        requests = []
        for number in range(BODIES):
            random = Random(number)
            path = paths[number % len(paths)]
            requests.append(post(mutated(random, random.choice(CORPUS[path])), path=path))
        assert {200, 400, 404} <= await round_of(gateway, requests)
        await idle(gateway)
        before, process = objects(), psutil.Process()
        rss = process.memory_info().rss
        for _ in range(ROUNDS):
            await round_of(gateway, requests)
        await idle(gateway)
        # What the node has still to settle goes within a moment.
        await until(lambda: objects() - before < OBJECTS_PER_REQUEST_MAX * BODIES * ROUNDS, within_s=40)
        assert process.memory_info().rss - rss < RSS_GROWTH_BYTES_MAX
    finally:
        await fleet.aclose()


async def round_of(gateway: Running, requests: list[bytes]) -> set[int]:
    """Every request once; the statuses that came."""
    statuses = set()
    for request in requests:
        answer = await exchange(gateway.port, request)
        judge(answer)
        statuses.add(answer.status)
    return statuses


async def idle(gateway: Running) -> None:
    """Wait until no request is owned any more."""

    async def owns_none() -> bool:
        return "gateway_requests_owned 0.0" in (await exchange(gateway.port, get("/metrics"))).body.decode()

    await until(owns_none)


def objects() -> int:
    """How many objects this process has that Python's collector knows of."""
    gc.collect()
    return len(gc.get_objects())
