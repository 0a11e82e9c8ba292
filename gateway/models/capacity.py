"""How many requests a model's nodes can begin by when, from what they say of slots and service time. No I/O.

A node of ``slots`` places that each request holds for ``service_ms`` takes ``slots / service_ms`` requests per
millisecond once all are taken (Little's law). Sums are kept as nodes come, change and go, so that a request costs none.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wire.presence import IRREVERSIBLE

if TYPE_CHECKING:
    from wire.presence import Presence

SERVICE_MS_MAX = 24 * 3600 * 1000
"""A service time is taken to lie between a millisecond and a day, whatever a heartbeat says."""
GROUPS_MAX = 16
"""Nodes that come back at different times are counted in at most so many groups, each from its latest time."""
COMES_BACK_WITHIN_MS = 1000
"""Nodes that come back within the same second come back together."""
EXACT = 1e-12
"""What floats may be wrong by, as a part of the whole."""
_RATE_UNIT = 10**21  # whole numbers add up and take off exactly, floats drift


@dataclass(frozen=True)
class Group:
    """Nodes that take requests from ``from_ms`` (Unix time; 0: now) on."""

    from_ms: int
    slots: int
    rate: float = 0.0
    """Requests per millisecond; 0 if nobody has measured it."""
    busy: int = 0
    """Slots that are taken."""


@dataclass(frozen=True)
class Capacity:
    """What a model's nodes can do. ``groups`` are in the order of their time."""

    groups: tuple[Group, ...] = ()
    service_ms: float | None = None
    """How long a request holds a slot, on average over what the nodes take; None: nobody has measured it."""
    leaving: int = 0
    """Requests at work on nodes that take no others: they stand in nobody's way."""

    def slots(self, now_ms: int) -> int:
        """Places of the nodes that take requests now."""
        return sum(group.slots for group in self.groups if group.from_ms <= now_ms)

    def elsewhere(self, now_ms: int) -> int:
        """Requests at work that hold none of those places."""
        return self.leaving + sum(group.busy for group in self.groups if group.from_ms > now_ms)

    def begun_ms(self, requests: int, now_ms: int) -> float | None:
        """Until so many have begun, those at work included: 0 with a free slot for all, None if nobody can tell."""
        begun, rate, after_ms = 0.0, 0.0, 0.0
        for group in self.groups:
            if group.from_ms - now_ms > after_ms:
                more = rate * (group.from_ms - now_ms - after_ms)
                if begun + more >= requests:
                    break
                begun, after_ms = begun + more, float(group.from_ms - now_ms)
            begun, rate = begun + group.slots, rate + group.rate
            if begun >= requests:
                return after_ms
        return after_ms + (requests - begun) / rate if rate else None

    def next_end_ms(self, within_ms: float, now_ms: int) -> float:
        """When, no sooner than after ``within_ms``, a request ends: they end one by one, at the measured rate."""
        ended = sum(group.rate * max(0.0, within_ms - max(0, group.from_ms - now_ms)) for group in self.groups)
        ends = Capacity(tuple(replace(group, slots=0) for group in self.groups))
        return max(within_ms, ends.begun_ms(math.ceil(ended * (1 - EXACT)), now_ms) or 0.0)


@dataclass
class _Sum:
    """Nodes that are counted together. Their rates in requests per ``_RATE_UNIT`` milliseconds."""

    slots: int = 0
    busy: int = 0
    measured: int = 0
    rate: int = 0

    def count(self, presence: Presence, sign: int) -> None:
        slots = max(0, presence.slots)
        self.slots += sign * slots
        self.busy += sign * min(slots, max(0, presence.busy))
        if presence.service_ms is not None:
            self.measured += sign * slots
            self.rate += sign * (slots * _RATE_UNIT // min(max(1, presence.service_ms), SERVICE_MS_MAX))


class ModelNodes:
    """The present nodes of one model, and the sums over them."""

    def __init__(self) -> None:
        self._nodes: dict[str, Presence] = {}
        self._serving: Counter[str] = Counter()  # nodes by endpoint
        self._in_order: Counter[str] = Counter()  # those of them that are not out of order
        self._continuing = 0
        self._all = _Sum()
        self._by_time: dict[int, _Sum] = {}
        self._leaving = _Sum()
        self._capacity: Capacity | None = None

    def __repr__(self) -> str:
        return f"<ModelNodes {len(self._nodes)} {self.capacity!r}>"

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def presences(self) -> list[Presence]:
        """Each node's latest heartbeat."""
        return list(self._nodes.values())

    @property
    def continues(self) -> bool:
        """Whether some node can go on after a text that it is given."""
        return self._continuing > 0

    @property
    def endpoints(self) -> list[str]:
        """What is served by some node, by name."""
        return sorted(self._serving)

    def serves(self, endpoint: str) -> bool:
        """Whether some node serves it."""
        return endpoint in self._serving

    def in_order(self, endpoint: str) -> bool:
        """Whether some node that serves it is in no state that lasts until someone acts."""
        return endpoint in self._in_order

    def put(self, presence: Presence) -> None:
        """A node is here, as it says."""
        self.drop(presence.node)
        self._nodes[presence.node] = presence
        self._count(presence, 1)

    def drop(self, node: str) -> None:
        """A node is gone."""
        if (presence := self._nodes.pop(node, None)) is not None:
            self._count(presence, -1)

    @property
    def capacity(self) -> Capacity:
        """What these nodes can do."""
        if self._capacity is None:
            groups = [self._group(from_ms, self._by_time[from_ms]) for from_ms in sorted(self._by_time)]
            here = [group for group in groups[:1] if not group.from_ms]
            later = groups[len(here) :]
            together = -(-len(later) // GROUPS_MAX) or 1
            self._capacity = Capacity(
                (*here, *(_joined(later[at : at + together]) for at in range(0, len(later), together))),
                self._all.measured * _RATE_UNIT / self._all.rate if self._all.rate else None,
                self._leaving.busy,
            )
        return self._capacity

    def _group(self, from_ms: int, sums: _Sum) -> Group:
        rate = sums.rate / _RATE_UNIT
        if self._all.measured:
            # A node that has served nothing yet is taken to be like the others of its model.
            rate += (sums.slots - sums.measured) * self._all.rate / self._all.measured / _RATE_UNIT
        return Group(from_ms, sums.slots, rate, sums.busy)

    def _count(self, presence: Presence, sign: int) -> None:
        self._capacity = None
        self._all.count(presence, sign)
        from_ms = _takes_from_ms(presence)
        if from_ms is None:
            self._leaving.count(presence, sign)
        else:
            sums = self._by_time.setdefault(from_ms, _Sum())
            sums.count(presence, sign)
            if sums == _Sum():
                del self._by_time[from_ms]
        self._continuing += sign * presence.continues
        for endpoint in presence.endpoints:
            _add(self._serving, endpoint, sign)
            if presence.state not in IRREVERSIBLE:
                _add(self._in_order, endpoint, sign)


def _takes_from_ms(presence: Presence) -> int | None:
    """From when on a node takes requests; 0: now, None: nobody knows."""
    if presence.state == "ready":
        return 0
    if presence.state == "rate_limited" and presence.until_ms is not None:
        return -(-presence.until_ms // COMES_BACK_WITHIN_MS) * COMES_BACK_WITHIN_MS
    return None


def _joined(groups: list[Group]) -> Group:
    return Group(
        groups[-1].from_ms,
        sum(group.slots for group in groups),
        sum(group.rate for group in groups),
        sum(group.busy for group in groups),
    )


def _add(counts: Counter[str], name: str, number: int) -> None:
    counts[name] += number
    if not counts[name]:
        del counts[name]
