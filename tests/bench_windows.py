"""Results of the benchmarks as nobody measured them."""

from __future__ import annotations

from typing import Any

from bench.arm import DIRECT, LITELLM, PULSAR
from bench.generator import Percentiles
from bench.machine import Machine
from bench.result import MeasuredArm, Result, Run
from bench.spread import Spread
from bench.window import Window


def percentiles(ms: float) -> Percentiles:
    """The median as told, the other ones around it."""
    curve = [ms * (0.5 + percent / 100) for percent in range(101)]
    return Percentiles(100, ms, ms, 2 * ms, 4 * ms, 5 * ms, 6 * ms, curve)


def window(round_: int, workload: str, arm: str, **told: Any) -> Window:
    """One of an arm that spent 1 ms in each of 1000 answers, but for what is told."""
    values: dict[str, Any] = {
        "void": "",
        "rate": 0.0,
        "answers": 1000,
        "failed": 0,
        "hung_up": 0,
        "chunks": 50_000,
        "seconds": 1.0,
        "answers_per_s": 1000.0,
        "first_ms": percentiles(1.0),
        "total_ms": percentiles(2.0),
        "chunk_delay_ms": None,
        "cpu_s": {"all of it": 1.0},
        "generator_cpu_s": 0.1,
    }
    return Window(round=round_, workload=workload, arm=arm, **{**values, **told})


def measured(name: str, *roles: str, **told: Any) -> MeasuredArm:
    """An arm with its roles."""
    values: dict[str, Any] = {
        "version": "1",
        "notes": {},
        "cannot": {},
        "closed_per_s": {"whole": 100.0, "stream": 50.0},
        "start_s": {role: Spread.of([1.5]) for role in roles},
        "idle_mib": {role: Spread.of([80.0]) for role in roles},
        "loaded_mib": dict.fromkeys(roles, 90.0),
        "idle_cpu_percent": {role: Spread.of([0.5]) for role in roles},
    }
    return MeasuredArm(name=name, **{**values, **told})


def result(*windows: Window, arms: list[MeasuredArm] | None = None, **told: Any) -> Result:
    """A run with these windows."""
    run = Run("2026-01-01T00:00:00+00:00", "0" * 12, "fleet bench", 4.0, 3, 0.1, 2.0, 60.0)
    machine = Machine("Linux", "a processor", 2, 4096, "3.11", "17", "4", {})
    known = arms or [
        measured(DIRECT),
        measured(PULSAR, "gateway", "remote node", "broker", "management"),
        measured(LITELLM, "litellm"),
    ]
    return Result(run, machine, {arm.name: arm for arm in known}, told.get("left_out", {}), list(windows))
