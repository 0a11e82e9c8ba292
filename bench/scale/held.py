"""Thousands of streams at once that say little: what each costs the gateway in memory, and all of them in time."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import msgspec

from bench.fleet_processes import wait_for_model
from bench.generator import Load, Percentiles, finished
from bench.scale.record import Row, at_most, none_lost, told
from bench.scale.watch import Watch
from bench.window import cpu_s

if TYPE_CHECKING:
    from bench.fleet_processes import FleetProcesses

KIB_EACH_AIM = 16.0
RAMP_PER_S = 250
"""Streams that begin in a second: what is measured is holding them."""
WARM_UP_REQUESTS = 500
SLOTS_MAX = 4000
"""Of a node."""


class Held(msgspec.Struct, frozen=True):
    """``gateway_mib`` and ``nodes_mib``: before the first stream, after a warm-up, and the most while all were held."""

    streams: int
    chunks_each: int
    every_s: float
    gateway_mib: tuple[float, float]
    nodes_mib: tuple[float, float]
    gateway_cores: float
    """Processor time per second while all were held."""
    nodes_cores: float
    answers: int
    failed: int
    first_error: str
    chunk_delay_ms: Percentiles | None

    @property
    def kib_each(self) -> float:
        """What a held stream adds to the gateway."""
        return (self.gateway_mib[1] - self.gateway_mib[0]) * 1024 / self.streams


def measure(fleet: FleetProcesses, *, streams: int, chunks: int, every_s: float) -> Held:
    """Hold so many streams at once, with a chunk every ``every_s`` seconds."""
    fleet.upstream()
    fleet.broker()
    gateway = fleet.gateway()
    nodes = [
        fleet.node("remote", f"node {number}", MAX_PROCESS_NUM=str(min(streams, SLOTS_MAX)))
        for number in range(math.ceil(streams / SLOTS_MAX))
    ]
    wait_for_model(gateway)
    Load(url=gateway.url, clients=16, requests=WARM_UP_REQUESTS, stream=True).run()
    ramp_s = streams / RAMP_PER_S
    load = Load(
        url=gateway.url,
        clients=streams,
        requests=streams,
        ramp_s=ramp_s,
        stream=True,
        stamped=True,
        chunks=chunks,
        pace_ms=every_s * 1000,
    )
    with Watch([gateway, *nodes], every_s=1.0) as watch:
        generator = load.start()
        time.sleep(ramp_s + 1)
        before, began = (gateway.cpu_s, cpu_s(nodes)), time.perf_counter()
        time.sleep(max(1.0, (chunks - 1) * every_s - ramp_s - 2))
        seconds = time.perf_counter() - began
        spent = gateway.cpu_s - before[0], cpu_s(nodes) - before[1]
        sample = finished(generator, 120 + ramp_s)
    return Held(
        streams=streams,
        chunks_each=chunks,
        every_s=every_s,
        gateway_mib=watch.grown_mib([gateway.name]),
        nodes_mib=watch.grown_mib([node.name for node in nodes]),
        gateway_cores=round(spent[0] / seconds, 4),
        nodes_cores=round(spent[1] / seconds, 4),
        answers=sample.answers,
        failed=sample.failed,
        first_error=sample.first_error,
        chunk_delay_ms=sample.chunk_delay_ms,
    )


def rows(found: Held) -> list[Row]:
    """For people."""
    what = f"{found.streams:,} held streams, a chunk every {found.every_s:g} s"
    delay = [] if found.chunk_delay_ms is None else [told("p99 of a chunk's delay", found.chunk_delay_ms.p99, "ms")]
    return [
        at_most(f"{what}: gateway's memory each", found.kib_each, KIB_EACH_AIM, "KiB", 1),
        told("the gateway meanwhile", found.gateway_cores, "cores", 3),
        told("nodes' memory each", (found.nodes_mib[1] - found.nodes_mib[0]) * 1024 / found.streams, "KiB", 1),
        *delay,
        none_lost(found.answers, found.failed, found.first_error),
    ]
