"""What the arms are asked to bear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PACE_MS = 20.0


@dataclass(frozen=True)
class Workload:
    """One kind of load; ``load`` are the fields of :class:`bench.generator.Load` that differ from its defaults."""

    name: str
    words: str
    load: Mapping[str, Any]
    rate: float = 0.0
    """Requests per second at fixed moments, by an arm that bears them; 0 where clients ask one after the other."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Other clients who ask at the same time, and whose own times do not count."""

    @property
    def stream(self) -> bool:
        return bool(self.load.get("stream"))


def _named(*all_: Workload) -> dict[str, Workload]:
    return {each.name: each for each in all_}


_STREAM = {"stream": True}
_PACED = {"stream": True, "pace_ms": PACE_MS, "stamped": True}
_SLOW = {"stream": True, "clients": 8, "chunks": 400, "chunk_bytes": 2000, "read_bytes_per_s": 300_000}

WORKLOADS = _named(
    Workload("whole-1", "whole answers, one at a time", {"curve": True}),
    Workload("stream-1", "streams at once, one at a time", _STREAM),
    Workload("whole-16", "whole answers, 16 clients", {"clients": 16}),
    Workload("whole-64", "whole answers, 64 clients", {"clients": 64, "curve": True}),
    Workload("stream-16", "streams at once, 16 clients", {**_STREAM, "clients": 16}),
    Workload("stream-64", "streams at once, 64 clients", {**_STREAM, "clients": 64}),
    Workload("whole-500", "whole answers, 500 a second", {}, rate=500),
    Workload("stream-500", "streams at once, 500 a second", _STREAM, rate=500),
    Workload(
        "paced-128", "128 streams, 20 ms between chunks", {**_PACED, "clients": 128, "ramp_s": 1.0, "curve": True}
    ),
    Workload(
        "mixed-16", "prompts of 4 KB and 100 KB in turns, 16 clients", {"clients": 16, "prompt_bytes": "4096,102400"}
    ),
    Workload("slow-8", "whole answers, one at a time, beside 8 clients who read slowly", {}, beside=_SLOW),
    Workload("hang-up-16", "16 clients who hang up after 10 chunks", {**_PACED, "clients": 16, "hang_up_after": 10}),
)
"""By name. A stream has 50 chunks, a whole answer 50 tokens."""
