"""Every measurement by its name: how it is made in full, and how for a first look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from bench.scale import backlog, brokers, busy, death, held, presence, soak, width
from bench.scale.record import Record, path_of
from bench.scale.width import Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.scale.record import Row

SHAPES = (
    *(Shape(), Shape(gateways=2), Shape(gateways=4), Shape(nodes=2), Shape(nodes=4)),
    *(Shape(models=1), Shape(models=100), Shape(models=1000)),
)


@dataclass(frozen=True)
class Measurement:
    """``measure`` takes a :class:`bench.fleet_processes.FleetProcesses` and the options; ``rows`` are for people."""

    words: str
    minutes: str
    measure: Callable[..., Any]
    rows: Callable[[Any], list[Row]]
    found: type
    full: dict[str, Any]
    quick: dict[str, Any]

    def recorded(self, name: str) -> Record[Any] | None:
        """What was recorded under this name, if anything was."""
        path = path_of(name)
        if not path.exists():
            return None
        return msgspec.json.decode(path.read_bytes(), type=Record[self.found])  # type: ignore[name-defined]


MEASUREMENTS = {
    "held": Measurement(
        "thousands of streams that say little",
        "4",
        held.measure,
        held.rows,
        held.Held,
        {"streams": 10_000, "chunks": 10, "every_s": 10.0},
        {"streams": 300, "chunks": 4, "every_s": 2.0},
    ),
    "busy": Measurement(
        "hundreds of streams that say much",
        "3",
        busy.measure,
        busy.rows,
        busy.Busy,
        {"streams": 400, "per_s": 50.0, "seconds": 20.0, "warm_up_s": 30.0},
        {"streams": 40, "per_s": 50.0, "seconds": 3.0, "warm_up_s": 1.0},
    ),
    "width": Measurement(
        "the same rate over more gateways, nodes and models",
        "20",
        width.measure,
        width.rows,
        width.Width,
        {"shapes": SHAPES, "rate": 100.0, "seconds": 10.0, "rounds": 5},
        {
            "shapes": (Shape(), Shape(gateways=2), Shape(models=1), Shape(models=20)),
            "rate": 40.0,
            "seconds": 3.0,
            "rounds": 1,
        },
    ),
    "presence": Measurement(
        "the heartbeats of a thousand nodes",
        "3",
        presence.measure,
        presence.rows,
        presence.Heard,
        {"nodes": 1000, "models": 100, "seconds": 60.0},
        {"nodes": 100, "models": 10, "seconds": 5.0},
    ),
    "backlog": Measurement(
        "a hundred thousand requests that wait",
        "4",
        backlog.measure,
        backlog.rows,
        backlog.Backlog,
        {"waiting": 100_000, "admissions": 500},
        {"waiting": 2_000, "admissions": 50},
    ),
    "death": Measurement(
        "a node killed under load",
        "2",
        death.measure,
        death.rows,
        death.Death,
        {"rate": 60.0, "seconds": 30.0},
        {"rate": 20.0, "seconds": 8.0},
    ),
    "brokers": Measurement(
        "a cluster of several brokers",
        "1",
        brokers.measure,
        brokers.rows,
        brokers.Brokers,
        {"brokers": 4, "bundles": 64, "models": [5, 20, 100, 1000], "nodes": 1000},
        {"brokers": 4, "bundles": 64, "models": [5, 20], "nodes": 20},
    ),
    "soak": Measurement(
        "a million requests",
        "60",
        soak.measure,
        soak.rows,
        soak.Soak,
        {"requests": 1_000_000},
        {"requests": 2_000},
    ),
}
