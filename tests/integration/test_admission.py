"""A queue in front of one slot: who waits is answered, who would wait too long hears at once when to come again."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from openai import AsyncOpenAI

import workernode.role
from tests.keys import Keys, ask
from tests.raw_http import JSON, KEY, Answer, Connection, exchange, get, post
from tests.scripted_engine import ScriptedEngine
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.in_process import InProcessFleet, Running
    from workernode.engine import Answer as Writer
    from workernode.engine import Job
    from workernode.outcome import Answered, Later, Refused

SERVICE_S = 0.5
HASTE = 0.7
"""What a busy machine may add to an answer's time is taken off, once the time is measured."""


class SlowEngine(ScriptedEngine):
    """Each answer takes its time."""

    async def answer(self, job: Job, answer: Writer) -> Answered | Refused | Later:
        await asyncio.sleep(SERVICE_S * (HASTE if self.asked else 1))
        return await super().answer(job, answer)


class OneSlot:
    """A model with one node of one slot."""

    def __init__(self, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> None:
        self.fleet = fleet
        self.engine = engine
        self.body = {"model": fleet.model, "messages": [{"role": "user", "content": "Hello"}]}
        monkeypatch.setattr(workernode.role, "_engine", lambda *_: engine)

    async def start(self, *, gateways: int = 1, **env: str) -> list[Running]:
        await self.fleet.node(MAX_PROCESS_NUM="1")
        return [await self.fleet.gateway(**env) for _ in range(gateways)]

    async def warm_up(self, gateway: Running) -> None:
        """Let the node serve a request, and the gateway hear how long that took."""
        assert (await self.ask(gateway)).status == 200
        await until(lambda: self._is_measured(gateway))

    async def warm_up_for(self, seconds: float, gateway: Running, release: asyncio.Event) -> None:
        """The same with an answer that takes so long. The engine waits for ``release``, which is set then."""
        loop, warming_up = asyncio.get_running_loop(), asyncio.create_task(self.warm_up(gateway))
        await until(lambda: self.engine.running)
        since = loop.time()
        await until(lambda: loop.time() > since + seconds)
        release.set()
        await warming_up

    async def _is_measured(self, gateway: Running) -> bool:
        answer = await exchange(gateway.port, get(f"/v1/models/{self.fleet.model}"), method="GET")
        return json.loads(answer.body)["workernode"]["service_ms"] is not None

    async def ask(self, gateway: Running, *headers: str, **fields: Any) -> Answer:
        body = json.dumps(self.body | fields).encode()
        return await exchange(gateway.port, post(body, *JSON, f"content-length: {len(body)}", *headers))


async def figure(gateway: Running, name: str) -> float:
    page = await exchange(gateway.port, get("/metrics"), method="GET")
    found = re.search(rf"^{name} (\S+)$", page.body.decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def _runs(gateway: Running) -> bool:
    return await figure(gateway, "gateway_requests_open") == 1 and await waits(gateway, 0)


async def waits(gateway: Running, count: int) -> bool:
    return await figure(gateway, "gateway_requests_waiting") == count


async def test_of_a_burst_those_that_fit_are_answered_and_the_others_hear_when_to_come_again(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = OneSlot(fleet, monkeypatch, SlowEngine("Hi"))
    (gateway,) = await house.start()
    await house.warm_up(gateway)
    deadline = f"x-request-timeout-ms: {round(6 * SERVICE_S * 1000)}"
    burst = [asyncio.create_task(house.ask(gateway, deadline)) for _ in range(20)]
    refused = [each for each in [await each for each in asyncio.as_completed(burst)] if each.status == 503]
    answered = [each.result() for each in burst if each.result().status == 200]
    assert len(answered) + len(refused) == len(burst)
    assert 2 <= len(answered) <= 6
    assert sorted(int(each.headers["x-queue-position"]) for each in answered) == list(range(len(answered)))
    assert house.engine.asked == 1 + len(answered), "what is refused is not published"
    for each in refused:
        assert each.error["code"] == "overloaded"
        assert each.headers["x-should-retry"] == "true"
        assert "x-queue-position" not in each.headers
        again_ms = int(each.headers["retry-after-ms"])
        assert 0 < again_ms < 6 * SERVICE_S * 1000
        assert int(each.headers["retry-after"]) == -(-again_ms // 1000)


async def test_who_comes_again_when_told_is_admitted_and_who_is_patient_waits(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = OneSlot(fleet, monkeypatch, SlowEngine("Hi"))
    (gateway,) = await house.start()
    await house.warm_up(gateway)
    loop = asyncio.get_running_loop()
    waiting = [asyncio.create_task(house.ask(gateway)) for _ in range(4)]
    await until(lambda: waits(gateway, 3))
    hurried = f"x-request-timeout-ms: {round(3 * SERVICE_S * 1000)}"
    refused = await house.ask(gateway, hurried)
    assert refused.status == 503
    at = loop.time() + int(refused.headers["retry-after-ms"]) / 1000
    await until(lambda: loop.time() >= at)
    assert (await house.ask(gateway, hurried)).status == 200
    assert {(await each).status for each in waiting} == {200}


async def test_two_gateways_before_one_node_see_each_others_backlog(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    release.set()
    house = OneSlot(fleet, monkeypatch, ScriptedEngine(release, "Hi"))
    first, second = await house.start(gateways=2)
    for each in (first, second):
        await house.warm_up(each)
    release.clear()
    there = [asyncio.create_task(house.ask(first)) for _ in range(4)]

    async def seen(gateway: Running, count: int) -> bool:
        return await figure(gateway, "gateway_requests_waiting_elsewhere") == count

    await until(lambda: seen(second, 3))
    refused = await house.ask(second, "x-request-timeout-ms: 1")
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    here = asyncio.create_task(house.ask(second))
    await until(lambda: seen(first, 1))
    release.set()
    assert (await here).headers["x-queue-position"] == "4"
    assert int((await here).headers["x-queue-eta-ms"]) > 0
    assert {(await each).status for each in [*there, here]} == {200}
    assert house.engine.asked == 7
    await until(lambda: seen(first, 0))


async def test_a_stream_that_waits_says_where_it_stands_and_clients_read_over_it(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    house = OneSlot(fleet, monkeypatch, ScriptedEngine(release, "Hi"))
    (gateway,) = await house.start(STATUS_HOLD_S="0.05", KEEP_ALIVE_S="0.05")
    async with Connection(gateway.port) as running, Connection(gateway.port) as waiting:
        running.send(post(house.body | {"stream": True}))
        await until(lambda: house.engine.running)
        waiting.send(post(house.body | {"stream": True}))
        (status, headers), (other, _) = await waiting.head(), await running.head()
        assert status == other == 200
        assert headers["x-queue-position"] == "1"
        assert "x-queue-eta-ms" not in headers, "nobody has measured the node"
        parts = waiting.parts()
        assert [await anext(parts) for _ in range(3)] == [b": queue position=1\n\n"] * 3
        # Before it is known to run, which takes long on a busy machine, it waits as well.
        assert await anext(part async for part in running.parts() if not part.startswith(b": queue")) == b": ping\n\n"
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=fleet.model, messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            release.set()
            assert [chunk.choices[0].delta.content async for chunk in stream] == ["Hi"]
        rest = b"".join([part async for part in parts])
    waited = rb"(: queue position=1\n\n)*(: queue position=1 eta_ms=[0-9]+\n\n)*(: ping\n\n)*"
    assert re.fullmatch(waited + rb'data: \{"id":[^\n]*"Hi"[^\n]*\}\n\ndata: \[DONE\]\n\n', rest)


async def test_a_service_time_lasts_as_long_as_the_slot_is_held(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    house = OneSlot(fleet, monkeypatch, ScriptedEngine("Hi", release))
    (gateway,) = await house.start()
    await house.warm_up_for(0.1, gateway, release)
    answer = await exchange(gateway.port, get(f"/v1/models/{fleet.model}"), method="GET")
    assert json.loads(answer.body)["workernode"]["service_ms"] >= 100


async def test_a_cold_model_admits_a_count_of_requests_for_someone_to_see(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = OneSlot(fleet, monkeypatch, ScriptedEngine("Hi"))
    gateway = await fleet.gateway(MODELS=fleet.model, COLD_REQUESTS_MAX="3")
    waiting = [asyncio.create_task(house.ask(gateway)) for _ in range(3)]
    await until(lambda: waits(gateway, 3))
    refused = await house.ask(gateway)
    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "overloaded", "10")
    assert await figure(gateway, r'gateway_refused_requests_total\{status="503"\}') == 1
    await fleet.node(MAX_PROCESS_NUM="1")
    assert {(await each).status for each in waiting} == {200}
    assert house.engine.asked == 3


async def test_a_library_that_gives_up_soon_is_told_at_once_for_a_whole_answer(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    house = OneSlot(fleet, monkeypatch, ScriptedEngine("Hi", release))
    (gateway,) = await house.start()
    await house.warm_up_for(0.3, gateway, release)
    release.clear()
    running = asyncio.create_task(house.ask(gateway))
    await until(lambda: _runs(gateway))
    refused = await house.ask(gateway, "x-stainless-read-timeout: 0.2")
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    stream = asyncio.create_task(house.ask(gateway, "x-stainless-read-timeout: 0.2", stream=True))
    await until(lambda: waits(gateway, 1))
    release.set()
    assert [(await each).status for each in (running, stream)] == [200, 200]


async def test_whoever_is_refused_holds_neither_its_keys_place_nor_one_in_the_queue(
    fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = Keys(f"sqlite+aiosqlite:///{tmp_path}/workernode.db")
    key = await keys.create("one", "--concurrent", "1", "--requests-per-min", "2")
    house = OneSlot(fleet, monkeypatch, ScriptedEngine("Hi"))
    gateway = await fleet.gateway(MODELS=fleet.model, COLD_REQUESTS_MAX="1", DATABASE_URL=keys.url, API_KEYS=KEY)
    waiting = asyncio.create_task(ask(gateway.port, KEY, fleet.model))
    await until(lambda: waits(gateway, 1))
    refused = [await ask(gateway.port, key, fleet.model) for _ in range(5)]
    assert [each.status for each in refused] == [503] * 5
    assert {each.headers["x-ratelimit-remaining-requests"] for each in refused} == {"2"}, "none of them counts"
    await fleet.node(MAX_PROCESS_NUM="1")
    assert (await waiting).status == 200
    assert [(await ask(gateway.port, key, fleet.model)).status for _ in range(3)] == [200, 200, 429]
    assert await waits(gateway, 0)
    assert house.engine.asked == 3
