"""A long queue: what it does to who comes to it, and to the gateway.

The requests that wait are those of an earlier gateway, which is simulated: they lie in the topic, and it tells the
measured gateway how many they are, as gateways do. Simulated nodes make the gateway expect that all are answered in
time, and take nothing. So it is measured what a gateway does with a backlog, not what a hundred thousand connections
of its own clients cost, which :mod:`bench.scale.held` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec

from bench.generator import Percentiles
from bench.scale.crowd import crowd
from bench.scale.record import Row, told
from bench.spread import percentile
from broker.open import open_broker
from process.identity import new_incarnation, new_request_id, now_ms
from wire import codec
from wire.backlog import BacklogReport, ModelBacklog
from wire.request import Request
from wire.topics import WORKERS, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.fleet_processes import FleetProcesses
    from bench.process import Process

MODEL = "crowd-0"
NODES = 100
SETTLE_S = 6.0
AT_ONCE = 1000
PROMPT_BYTES = 400
REPORT_EVERY_S = 2.0
SLOWER_MAX, GROWN_MAX_MIB = 0.25, 5.0
"""What may change with the backlog: the median of admissions, and the gateway's memory."""
DRAIN_S = 10.0
HEADS = {"STATUS_HOLD_S": "0.001", "MODELS": MODEL}
"""A stream's head goes out as soon as its request is let in and stored, and tells its place in the queue."""


class Phase(msgspec.Struct, frozen=True):
    """``admitted_ms``: from the connection to the head of the answer, which tells the ``position``."""

    name: str
    admitted_ms: Percentiles
    position: int
    gateway_mib: float
    gateway_ms: float
    """Processor time per admission."""


class Backlog(msgspec.Struct, frozen=True):
    """Before, during and after. ``left_over_per_s``: how fast a node finds out that nobody waits for them."""

    waiting: int
    phases: list[Phase]
    left_over_per_s: float


def measure(fleet: FleetProcesses, *, waiting: int, admissions: int) -> Backlog:
    """Ask so often in each phase, one after the other."""
    broker = fleet.broker()
    gateway = fleet.gateway(**HEADS)
    return asyncio.run(_measured(fleet, broker, gateway, waiting, admissions))


async def _measured(fleet: FleetProcesses, broker: Process, gateway: Process, waiting: int, admissions: int) -> Backlog:
    queue = f"{broker.url}/admin/v2/persistent/public/default/{quote(Topics().requests(MODEL).rpartition('/')[2])}"
    async with crowd(fleet.pulsar_url, NODES, models=1):
        await asyncio.sleep(SETTLE_S)
        await _phase("warm-up", gateway, admissions)
        phases = [await _phase("before", gateway, admissions)]
        async with _earlier_gateway(fleet.pulsar_url, waiting):
            await asyncio.sleep(SETTLE_S)
            phases.append(await _phase("during", gateway, admissions))
        left_over_per_s = await asyncio.to_thread(_drain, fleet, queue)
        await asyncio.to_thread(_admin, f"{queue}/subscription/{WORKERS}/skip_all", "POST")
        await asyncio.sleep(SETTLE_S)
        phases.append(await _phase("after", gateway, admissions))
    return Backlog(waiting, phases, left_over_per_s)


def _drain(fleet: FleetProcesses, queue: str) -> float:
    """How many requests per second a node takes out of the queue that an earlier gateway left."""
    node = fleet.node("static", MODEL_NAME=MODEL)
    waiting = _left(queue)
    while _left(queue) == waiting:
        time.sleep(0.2)  # it takes the gateway's silence for its end after some seconds only
    before, began = _left(queue), time.perf_counter()
    time.sleep(DRAIN_S)
    left, took = _left(queue), time.perf_counter() - began
    node.end()
    return round((before - left) / took, 1)


def _left(queue: str) -> int:
    return int(json.loads(_admin(f"{queue}/stats"))["subscriptions"][WORKERS]["msgBacklog"])


async def _phase(name: str, gateway: Process, admissions: int) -> Phase:
    before = gateway.cpu_s
    asked = [await _admitted(gateway) for _ in range(admissions)]
    times = [seconds * 1000 for seconds, _ in asked]
    return Phase(
        name,
        _percentiles(times),
        position=asked[-1][1],
        gateway_mib=round(gateway.resident_bytes / 2**20, 2),
        gateway_ms=round((gateway.cpu_s - before) * 1000 / admissions, 3),
    )


async def _admitted(gateway: Process) -> tuple[float, int]:
    """How long one admission took, and its place in the queue. The client hangs up then."""
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "w" * PROMPT_BYTES}]})
    where = urlsplit(gateway.url)
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    took = time.perf_counter() - began
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if not answer.startswith("HTTP/1.1 200"):
        raise RuntimeError(f"not admitted: {answer}")
    return took, int(answer.partition("x-queue-position: ")[2].partition("\r\n")[0])


@contextlib.asynccontextmanager
async def _earlier_gateway(pulsar_url: str, waiting: int) -> AsyncIterator[None]:
    """One that left so many requests in the queue, and tells of them while the block runs."""
    topics, name = Topics(), new_incarnation("gateway")
    broker = open_broker(pulsar_url)
    await broker.ensure(topics.requests(MODEL), WORKERS)
    producer = await broker.producer(topics.requests(MODEL))
    for begin in range(0, waiting, AT_ONCE):
        some = range(begin, min(begin + AT_ONCE, waiting))
        await asyncio.gather(*(producer.send(codec.encode(_request(name))) for _ in some))
    reports = await broker.producer(topics.backlog)

    async def tell() -> None:
        while True:
            model = ModelBacklog(model=MODEL, waiting=waiting, accepted=waiting, oldest_ms=now_ms())
            reports.post(codec.encode(BacklogReport(gateway=name, sent_ms=now_ms(), models=(model,))))
            await asyncio.sleep(REPORT_EVERY_S)

    telling = asyncio.ensure_future(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        reports.post(codec.encode(BacklogReport(gateway=name, sent_ms=now_ms())))
        await broker.aclose()


def _request(gateway: str) -> Request:
    return Request(
        request_id=new_request_id(),
        model=MODEL,
        endpoint="chat/completions",
        body=json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "w" * PROMPT_BYTES}]}).encode(),
        gateway=gateway,
        received_ms=now_ms(),
        deadline_ms=now_ms() + 600_000,
    )


def _admin(url: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        read: bytes = answer.read()
        return read


def _percentiles(values: list[float]) -> Percentiles:
    p50, p90, p99, p999 = (round(percentile(values, percent), 3) for percent in (50, 90, 99, 99.9))
    mean, most = round(sum(values) / len(values), 3), round(max(values), 3)
    return Percentiles(count=len(values), mean=mean, p50=p50, p90=p90, p99=p99, p999=p999, max=most)


def rows(found: Backlog) -> list[Row]:
    """For people."""
    before, during, after = found.phases
    slower = during.admitted_ms.p50 / before.admitted_ms.p50 - 1
    grown = during.gateway_mib - before.gateway_mib
    phases = [
        told(
            f"admission {phase.name}, at place {phase.position:,}",
            phase.admitted_ms.p50,
            f"ms p50, {phase.admitted_ms.p99:.1f} ms p99, {phase.gateway_ms:.2f} ms of the gateway, "
            f"which holds {phase.gateway_mib:.1f} MiB",
        )
        for phase in (before, during, after)
    ]
    what = f"{found.waiting:,} waiting requests"
    return [
        Row(f"{what}: admission slower by", f"{slower:+.0%}", f"≤ +{SLOWER_MAX:.0%}", slower <= SLOWER_MAX),
        Row("the gateway grows by", f"{grown:.1f} MiB", f"≤ {GROWN_MAX_MIB:g} MiB", grown <= GROWN_MAX_MIB),
        *phases,
        told("a node that comes then finds out that nobody waits for them", found.left_over_per_s, "/s", 0),
    ]
