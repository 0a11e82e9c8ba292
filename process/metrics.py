"""What all roles' figures have in common: series that are there before their first event, and the process itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wire.usage import Usage

M = TypeVar("M", Counter, Gauge)

WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Bounds of histograms for whatever a client waits for: from a node on the same machine to a long queue."""
TOKEN_KINDS = ("prompt", "cached", "completion", "reasoning")
"""``cached`` is a part of ``prompt``, and ``reasoning`` of ``completion``, as in :class:`wire.usage.Usage`."""


def registry() -> CollectorRegistry:
    """A registry with the process's own memory, CPU time, files and start."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made


def at_zero(metric: M, values: Iterable[str]) -> dict[str, M]:
    """The series of a metric's one label, by its values. What is not there before its first event has no rate when it
    comes, and a label with other values than these has no bound."""
    return {value: metric.labels(value) for value in values}


def tokens(name: str, text: str, registry: CollectorRegistry) -> dict[str, Counter]:
    """A counter of tokens by :data:`TOKEN_KINDS`; see :func:`count_tokens`."""
    return at_zero(Counter(name, text, ["kind"], registry=registry), TOKEN_KINDS)


def count_tokens(counters: dict[str, Counter], usage: Usage) -> None:
    """Add what an answer used."""
    counted = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens)
    for kind, count in zip(TOKEN_KINDS, counted, strict=True):
        if count:
            counters[kind].inc(count)
