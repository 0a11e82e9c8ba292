"""What was done to the fleet, when, and what it hit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "node",
    "gateway",
    "management",
    "broker",
    "unload",
    "reset",
    "black hole",
    "latency",
    "disconnect",
    "freeze",
    "drain",
    "later",
    "mute",
    "deaf",
    "slow disk",
    "blocked",
    "clock",
]


@dataclass
class Fault:
    """One fault. Times are the driver's loop time."""

    kind: Kind
    at: float
    in_flight: int
    """What the victim was working on: executions of a node, open answers of a gateway, unwritten events of a
    management, open answers of everybody for the broker. 0: it hit nothing, and proves nothing."""
    may_repeat: int = 0
    """How many requests may be executed once more because of it: those that were begun and not settled."""
    whom: str = ""
    """Which role's connections, of a fault in the network."""
    until: float | None = None
    """When the broker was there again."""
