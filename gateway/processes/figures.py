"""What the processes of one gateway have counted, put together as if it were one process. No I/O."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

SEEN_BY_ALL: dict[str, Callable[[float, float], float]] = {
    "gateway_nodes": max,
    "gateway_keys": max,
    "gateway_keys_database_up": min,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
"""Gauges of what each process sees for itself though it is there once. All others are added up."""
_WAITING, _ELSEWHERE = "gateway_requests_waiting", "gateway_requests_waiting_elsewhere"
_CREATED = "_created"
"""When a counter began: the earliest time of all."""


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One value."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """A metric with its values."""

    name: str
    documentation: str
    type: str
    samples: list[Sample]


def collected(registry: CollectorRegistry) -> list[Family]:
    """What a registry holds now."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def merged(parts: Iterable[list[Family]]) -> list[Family]:
    """One family of each name, with one value for each name and set of labels."""
    parts = list(parts)
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (family for part in parts for family in part):
        families.setdefault(family.name, family)
        found = values.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            join = min if sample.name.endswith(_CREATED) else SEEN_BY_ALL.get(family.name, add)
            found[key] = join(found[key], sample.value) if key in found else sample.value
    if _ELSEWHERE in values:
        # To each process the others are elsewhere as well; together they are one gateway.
        everywhere = max(_value(part, _WAITING) + _value(part, _ELSEWHERE) for part in parts)
        values[_ELSEWHERE] = {(_ELSEWHERE, ()): max(0.0, everywhere - sum(_value(part, _WAITING) for part in parts))}
    return [
        Family(
            name,
            family.documentation,
            family.type,
            [Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()],
        )
        for name, family in families.items()
    ]


def _value(families: list[Family], name: str) -> float:
    return sum(sample.value for family in families if family.name == name for sample in family.samples)


def lasting(families: list[Family]) -> list[Family]:
    """What stays true of a process that has ended: what it counted, not what it saw or held."""
    return [family for family in families if family.type != "gauge"]


def rendered(families: list[Family]) -> bytes:
    """As Prometheus reads it."""
    from prometheus_client import Metric, generate_latest

    class Collected:
        def collect(self) -> Iterable[Metric]:
            for family in families:
                metric = Metric(family.name, family.documentation, family.type)
                for sample in family.samples:
                    metric.add_sample(sample.name, sample.labels, sample.value)
                yield metric

    return generate_latest(Collected())
