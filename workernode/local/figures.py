"""What an engine tells of its load in Prometheus' text format, under the names that each has for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class FigureNames:
    """Under which names an engine tells; several where they changed with its versions."""

    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    kv_cache_use: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figures:
    """As of one look; None where the engine does not tell. ``kv_cache_use`` is 0 to 1."""

    running: int | None = None
    waiting: int | None = None
    kv_cache_use: float | None = None


NONE = FigureNames()
TRANSFORMERS = FigureNames(("model_requests_running",), ("model_requests_waiting",), ("model_kv_cache_use",))
LLAMA_CPP = FigureNames(
    ("llamacpp:requests_processing",), ("llamacpp:requests_deferred",), ("llamacpp:kv_cache_usage_ratio",)
)
VLLM = FigureNames(
    ("vllm:num_requests_running",),
    ("vllm:num_requests_waiting",),
    ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
)


def figures_of(text: str, names: FigureNames) -> Figures:
    """Read what ``/metrics`` said: sums over labels, but the fullest of several caches; nothing of unreadable text."""
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if isfinite(sample.value):
                    found.setdefault(sample.name, []).append(sample.value)
    except (ValueError, IndexError):
        return Figures()

    def values(wanted: tuple[str, ...]) -> list[float]:
        return next((found[name] for name in wanted if name in found), [])

    running, waiting, caches = values(names.running), values(names.waiting), values(names.kv_cache_use)
    return Figures(
        running=round(sum(running)) if running else None,
        waiting=round(sum(waiting)) if waiting else None,
        kv_cache_use=max(caches) if caches else None,
    )
