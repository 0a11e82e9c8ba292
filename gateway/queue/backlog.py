"""How many requests of each model are open, here and at the other gateways that share its queue. No I/O.

Sums are kept as requests come and go and as others report: so that a request costs none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wire.backlog import BACKLOG_LOST_S, BacklogReport, ModelBacklog

if TYPE_CHECKING:
    from collections.abc import Callable, Container

GATEWAYS_MAX = 1000
"""Other gateways that are listened to at once."""

Whereabouts = Literal["waiting", "running"]


@dataclass
class Counts:
    """Requests of one model."""

    waiting: int = 0
    running: int = 0
    taken: int = 0
    """How many nodes have begun for the first time: it only grows."""
    accepted: int = 0
    """How many were let in: it only grows."""
    since_ms: Counter[int] = field(default_factory=Counter)
    """Since when those that wait are open: how many of each moment."""

    @property
    def open(self) -> int:
        return self.waiting + self.running


@dataclass
class _Other:
    """Another gateway, as it last said."""

    sent_ms: int
    at: float
    models: dict[str, ModelBacklog] = field(default_factory=dict)


class Backlog:
    """The counts of all models. ``at`` is the loop's clock in seconds."""

    def __init__(self, gateway: str) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something new to report."""
        self._gateway = gateway
        self._own: dict[str, Counts] = {}
        self._elsewhere: dict[str, Counts] = {}
        self._others: dict[str, _Other] = {}
        self._unreported: set[str] = set()

    def __repr__(self) -> str:
        return f"<Backlog own={self._own} elsewhere={self._elsewhere} others={len(self._others)}>"

    def of(self, model: str) -> Counts:
        """What all gateways together have of a model."""
        own, other = self._own.get(model, _NOTHING), self._elsewhere.get(model, _NOTHING)
        return Counts(own.waiting + other.waiting, own.running + other.running, own.taken + other.taken)

    @property
    def waiting(self) -> int:
        """This gateway's requests that no node has begun."""
        return sum(counts.waiting for counts in self._own.values())

    @property
    def waiting_elsewhere(self) -> int:
        """Those of the other gateways, as they said last."""
        return sum(counts.waiting for counts in self._elsewhere.values())

    def move(
        self,
        model: str,
        before: Whereabouts | None,
        after: Whereabouts | None,
        *,
        taken: bool = False,
        since_ms: int = 0,
    ) -> None:
        """One of this gateway's requests, open since then, is somewhere else than before; None: not open."""
        own = self._own.setdefault(model, Counts())
        _shift(own, before, -1, since_ms)
        _shift(own, after, 1, since_ms)
        own.taken += taken
        self._unreported.add(model)
        self.on_change()

    def accept(self, model: str) -> None:
        """One of those that wait was let in: what its key may do was looked at as well."""
        self._own[model].accepted += 1
        self.on_change()

    def report(self, now_ms: int) -> BacklogReport:
        """What the other gateways are to know."""
        named = {model for model, counts in self._own.items() if counts.open} | self._unreported
        self._unreported = set()
        models = tuple(
            ModelBacklog(
                model=model,
                waiting=own.waiting,
                running=own.running,
                taken=own.taken,
                accepted=own.accepted,
                oldest_ms=min(own.since_ms, default=None),
            )
            for model, own in self._own.items()
            if model in named
        )
        return BacklogReport(gateway=self._gateway, sent_ms=now_ms, models=models)

    def heard(self, report: BacklogReport, known: Container[str], at: float) -> bool:
        """Take a report, of known models only; returns whether its gateway was not listened to before."""
        before = self._others.get(report.gateway)
        news = before is None
        if report.gateway == self._gateway or (news and len(self._others) >= GATEWAYS_MAX):
            return False
        if before is not None and before.sent_ms > report.sent_ms:
            return False
        other = before or _Other(report.sent_ms, at)
        models = {each.model: each for each in report.models if each.model in known}
        for model, last in other.models.items():
            # Of what it does not name it has none open; how many were taken has not changed.
            models.setdefault(model, ModelBacklog(model=model, taken=last.taken))
        for model, now in models.items():
            self._count(other.models.get(model) or ModelBacklog(model=model, taken=now.taken), now)
        other.sent_ms, other.at, other.models = report.sent_ms, at, models
        self._others[report.gateway] = other
        return news

    def forget_the_silent(self, known: Container[str], at: float) -> None:
        """Drop what gateways said that have not reported for too long, and models that are not known any more."""
        for gateway, other in list(self._others.items()):
            if at - other.at > BACKLOG_LOST_S:
                del self._others[gateway]
                for model, last in other.models.items():
                    self._count(last, ModelBacklog(model=model))
        for model in [model for model in self._elsewhere if model not in known]:
            del self._elsewhere[model]
            for other in self._others.values():
                other.models.pop(model, None)
        for model in [model for model, own in self._own.items() if not own.open and model not in known]:
            del self._own[model]

    def _count(self, before: ModelBacklog, now: ModelBacklog) -> None:
        counts = self._elsewhere.setdefault(now.model, Counts())
        counts.waiting += now.waiting - before.waiting
        counts.running += now.running - before.running
        counts.taken += max(0, now.taken - before.taken)


_NOTHING = Counts()


def _shift(counts: Counts, where: Whereabouts | None, by: int, since_ms: int) -> None:
    match where:
        case "waiting":
            counts.waiting += by
            counts.since_ms[since_ms] += by
            if not counts.since_ms[since_ms]:
                del counts.since_ms[since_ms]
        case "running":
            counts.running += by
        case None:
            pass
