"""The same requests over more gateways, more nodes and more models: what each costs then."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from bench.comparison import rotated
from bench.fleet_processes import MODEL
from bench.generator import Load
from bench.process import free_ports
from bench.result import spreads
from bench.scale.record import Row, none_lost
from bench.spread import Spread
from bench.table import number_text
from bench.window import until_quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.fleet_processes import FleetProcesses
    from bench.process import Process

GROWTH_AIM = 0.15
"""Of processor time per request, for each doubling of gateways or nodes, and from one model to the most. Taken within
each round; the median of the rounds is held against it."""
BROKER_WARM_UP_WINDOWS = 6
"""As long as so many windows it is asked first, while it compiles what it does often."""
WARM_UP_REQUESTS = 400
IDLE_S = 4.0
BEAT_S = 5.5
"""Every node has said that it is there within this time."""
NODES_WAIT_S = 300.0


class Shape(msgspec.Struct, frozen=True):
    """How a fleet is built. With ``models`` its nodes are static ones in one process, a model each."""

    gateways: int = 1
    nodes: int = 1
    models: int = 0

    @property
    def words(self) -> str:
        if self.models:
            return f"{self.models:,} models"
        return f"{self.gateways} gateways, {self.nodes} nodes"


class Cost(msgspec.Struct, frozen=True):
    """Of one shape. ``busy_ms`` is processor time per request beyond what the idle roles take, by role; ``idle_cores``
    is that."""

    shape: Shape
    busy_ms: dict[str, Spread]
    idle_cores: dict[str, Spread]
    p50_ms: Spread
    failed: int
    first_error: str

    @property
    def all_ms(self) -> Spread:
        """Of all roles together."""
        return Spread.of([sum(roles) for roles in zip(*(each.rounds for each in self.busy_ms.values()), strict=True)])


class Width(msgspec.Struct, frozen=True):
    """All shapes at one total rate."""

    rate: float
    seconds: float
    rounds: int
    costs: list[Cost]


def measure(fleet: FleetProcesses, *, shapes: Sequence[Shape], rate: float, seconds: float, rounds: int) -> Width:
    """Each shape once in each round, on one broker, its gateways and nodes started anew. Each round begins with another
    one: a machine is not as fast in one minute as in the next."""
    fleet.upstream()
    broker = fleet.broker()
    windows: dict[Shape, list[_Window]] = {shape: [] for shape in shapes}
    _window(fleet, broker, shapes[0], rate, BROKER_WARM_UP_WINDOWS * seconds)
    for number in range(rounds):
        for shape in rotated(shapes, number):
            windows[shape].append(_window(fleet, broker, shape, rate, seconds))
    return Width(rate, seconds, rounds, [_cost(shape, each) for shape, each in windows.items()])


class _Window(msgspec.Struct, frozen=True):
    busy_ms: dict[str, float]
    idle_cores: dict[str, float]
    p50_ms: float
    failed: int
    first_error: str


def _window(fleet: FleetProcesses, broker: Process, shape: Shape, rate: float, seconds: float) -> _Window:
    gateways = [fleet.gateway() for _ in range(shape.gateways)]
    nodes = [_many_nodes(fleet, shape.models)] if shape.models else [fleet.node("remote") for _ in range(shape.nodes)]
    try:
        time.sleep(BEAT_S)  # so that every gateway knows all nodes
        return _observed({"gateways": gateways, "nodes": nodes, "broker": [broker]}, shape, rate, seconds)
    finally:
        for process in (*gateways, *nodes):
            process.end()


def _observed(roles: dict[str, list[Process]], shape: Shape, rate: float, seconds: float) -> _Window:
    everybody = [process for each in roles.values() for process in each]
    load = Load(
        url=",".join(gateway.url for gateway in roles["gateways"]),
        model="bench-%d" if shape.models else MODEL,
        models=max(1, shape.models),
        rate=rate,
        seconds=seconds,
    )
    replace(load, rate=0, seconds=0, clients=16, requests=max(WARM_UP_REQUESTS, 2 * shape.models)).run()
    until_quiet(everybody)
    before, began = _cpu_s(roles), time.perf_counter()
    time.sleep(IDLE_S)
    idle, idle_s = _cpu_s(roles), time.perf_counter() - began
    began = time.perf_counter()
    sample = load.run()
    until_quiet(everybody)
    after, busy_s = _cpu_s(roles), time.perf_counter() - began
    idle_cores = {role: (idle[role] - before[role]) / idle_s for role in roles}
    busy = {role: after[role] - idle[role] - idle_cores[role] * busy_s for role in roles}
    return _Window(
        busy_ms={role: spent * 1000 / max(1, sample.answers) for role, spent in busy.items()},
        idle_cores=idle_cores,
        p50_ms=sample.total_ms.p50 if sample.total_ms is not None else 0.0,
        failed=sample.failed,
        first_error=sample.first_error,
    )


def _many_nodes(fleet: FleetProcesses, count: int) -> Process:
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "bench.scale.many_nodes", str(count), str(port)]
    process = fleet.start("nodes", command, {"PULSAR_URL": fleet.pulsar_url, "NODE_TYPE": "static"}, [port])
    process.wait_until_ready([(port, "/readyz")], NODES_WAIT_S)
    return process


def _cpu_s(roles: dict[str, list[Process]]) -> dict[str, float]:
    return {role: sum(process.cpu_s for process in each) for role, each in roles.items()}


def _cost(shape: Shape, windows: list[_Window]) -> Cost:
    return Cost(
        shape=shape,
        busy_ms=spreads([each.busy_ms for each in windows]),
        idle_cores=spreads([each.idle_cores for each in windows]),
        p50_ms=Spread.of([each.p50_ms for each in windows]),
        failed=sum(each.failed for each in windows),
        first_error=next((each.first_error for each in windows if each.failed), ""),
    )


def rows(found: Width) -> list[Row]:
    """For people. Each shape is compared with the one of half as many, models with one model."""
    by_shape = {cost.shape: cost for cost in found.costs}
    told_of = []
    for cost in found.costs:
        parts = ", ".join(f"{role} {number_text(spread.median)}" for role, spread in cost.busy_ms.items())
        idle = sum(spread.median for spread in cost.idle_cores.values())
        measured = (
            f"{cost.all_ms.median:.2f} ms ({parts}); {idle:.2f} cores while idle; p50 {cost.p50_ms.median:.1f} ms"
        )
        what = f"{cost.shape.words}: CPU per request"
        growth = _growth(cost, by_shape)
        if growth is None:
            told_of.append(Row(what, measured))
            continue
        measured = f"{growth.median:+.0%} ({growth.least:+.0%}…{growth.greatest:+.0%}): {measured}"
        told_of.append(Row(what, measured, f"≤ +{GROWTH_AIM:.0%}", growth.median <= GROWTH_AIM))
    failed = sum(cost.failed for cost in found.costs)
    error = next((cost.first_error for cost in found.costs if cost.failed), "")
    answers = round(found.rate * found.seconds * found.rounds * len(found.costs)) - failed
    return [*told_of, none_lost(answers, failed, error)]


def _growth(cost: Cost, by_shape: dict[Shape, Cost]) -> Spread | None:
    """How much more than the shape that it is measured by, within each round."""
    shape = cost.shape
    if shape.models > 1:
        base = Shape(models=1)
    elif shape.gateways > 1:
        base = Shape(gateways=shape.gateways // 2)
    else:
        base = Shape(nodes=shape.nodes // 2)
    if base == shape or base not in by_shape:
        return None
    rounds = zip(cost.all_ms.rounds, by_shape[base].all_ms.rounds, strict=True)
    return Spread.of([mine / its - 1 for mine, its in rounds])
