"""What gateways say of their open requests, and how many come and go. No I/O, and nothing that is not told again."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.backlog import BACKLOG_LOST_S, BacklogReport, ModelBacklog
from wire.errors import InvalidName
from wire.topics import segment

if TYPE_CHECKING:
    from collections.abc import Callable

GATEWAYS_MAX = 1_000
MODELS_MAX = 2_000
"""Of each gateway; what is beyond is not shown."""
WINDOW_S = 60
"""Over which rates are taken."""
NAMED_S = 3600.0
"""For so long after a gateway has named a model last, something is told of it."""


@dataclass(frozen=True)
class Traffic:
    """Of one model, at all gateways together. ``oldest_ms``: since when the oldest that waits is open."""

    waiting: int = 0
    running: int = 0
    oldest_ms: int | None = None
    in_per_s: float = 0.0
    out_per_s: float = 0.0


@dataclass
class _Gateway:
    sent_ms: int
    at: float
    models: dict[str, ModelBacklog]
    named_at: dict[str, float]
    """When it last named each of them."""


class _Window:
    """What was counted in the last :data:`WINDOW_S` seconds."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, count: int, at: float) -> None:
        self._sum += count
        if self._seconds and self._seconds[-1][0] == int(at):
            count += self._seconds.pop()[1]
        self._seconds.append((int(at), count))
        self.sum(at)

    def sum(self, at: float) -> int:
        while self._seconds and self._seconds[0][0] <= at - WINDOW_S:
            self._sum -= self._seconds.popleft()[1]
        return self._sum


class Backlogs:
    """Of all gateways. ``clock`` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._gateways: dict[str, _Gateway] = {}
        self._in: dict[str, _Window] = {}
        self._out: dict[str, _Window] = {}

    @property
    def models(self) -> set[str]:
        """Every model that something is told of."""
        self._forget_silent()
        since = self._clock() - NAMED_S
        return {model for gateway in self._gateways.values() for model, at in gateway.named_at.items() if at >= since}

    def hear(self, report: BacklogReport) -> None:
        """Take a report."""
        self._forget_silent()
        known = self._gateways.get(report.gateway)
        if (known is None and len(self._gateways) >= GATEWAYS_MAX) or (known and known.sent_ms > report.sent_ms):
            return
        now = self._clock()
        models = {each.model: each for each in report.models[:MODELS_MAX] if _is_name(each.model)}
        named_at = dict.fromkeys(models, now)
        if known is not None:
            for model, last in list(known.models.items())[: MODELS_MAX - len(models)]:
                # Of what is not named nothing is open; what was let in has not changed.
                models.setdefault(model, ModelBacklog(model=model, taken=last.taken, accepted=last.accepted))
            for model, told in models.items():
                self._count(known.models.get(model) or ModelBacklog(model=model), told, now)
            named_at = {model: at for model, at in (known.named_at | named_at).items() if model in models}
        self._gateways[report.gateway] = _Gateway(report.sent_ms, now, models, named_at)

    def of(self, model: str) -> Traffic:
        """One model."""
        self._forget_silent()
        told = [gateway.models[model] for gateway in self._gateways.values() if model in gateway.models]
        return Traffic(
            waiting=sum(each.waiting for each in told),
            running=sum(each.running for each in told),
            oldest_ms=min((each.oldest_ms for each in told if each.oldest_ms is not None), default=None),
            in_per_s=self._rate(self._in.get(model)),
            out_per_s=self._rate(self._out.get(model)),
        )

    def _count(self, before: ModelBacklog, now: ModelBacklog, at: float) -> None:
        came = now.accepted - before.accepted
        went = came - (now.waiting + now.running - before.waiting - before.running)
        if came > 0:
            self._in.setdefault(now.model, _Window()).add(came, at)
        if went > 0:
            self._out.setdefault(now.model, _Window()).add(went, at)

    def _rate(self, window: _Window | None) -> float:
        if window is None:
            return 0.0
        now = self._clock()
        return round(window.sum(now) / min(WINDOW_S, max(1.0, now - self._began)), 3)

    def _forget_silent(self) -> None:
        lost_before = self._clock() - BACKLOG_LOST_S
        silent = [name for name, gateway in self._gateways.items() if gateway.at < lost_before]
        for name in silent:
            del self._gateways[name]
        if silent:
            left = {model for gateway in self._gateways.values() for model in gateway.models}
            for windows in (self._in, self._out):
                for model in windows.keys() - left:
                    del windows[model]


def _is_name(model: str) -> bool:
    try:
        segment(model)
    except InvalidName:
        return False
    return True
