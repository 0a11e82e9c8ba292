"""How rough it is in one episode: what Pulsar and the network do to messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True)
class Weather:
    """Shares are of all messages of their kind; times are seconds, drawn evenly from nothing to this."""

    latency_s: float = 0.005
    """From a sender to the broker, and for its receipt back. Each producer has its own way, so topics overtake."""
    lost: float = 0.0
    """Share of non-persistent messages that nobody hears, with a receipt all the same."""
    twice: float = 0.0
    """Share of persistent messages that are stored twice, as by a client that repeats after a reconnect."""
    unknown: float = 0.0
    """Share of persistent messages whose sender never learns whether they were stored; half of them were."""
    unknown_after_s: float = 10.0
    """How long such a sender waits."""
    acks_gathered_s: float = 0.1
    """So long an acknowledgement stays in the process that gave it."""
    acks_late: float = 0.2
    """Share of acknowledgements that the broker writes down only after as long as :attr:`late_s`."""
    late_s: float = 1.0
    acks_lost: float = 0.5
    """Share of what is not written down that an unload, a restart or a lost connection undoes."""
    death_unseen: float = 0.15
    """Share of deaths that the broker notices by its keep-alive only."""
    keep_alive_s: float = 10.0

    @staticmethod
    def by(random: Random) -> Weather:
        """The weather of a seed: in a third of them nothing is lost and nothing comes twice."""
        weather = Weather(latency_s=random.choice((0.001, 0.005, 0.03)), late_s=random.choice((1.0, 1.0, 60.0)))
        if random.random() < 1 / 3:
            return weather
        return replace(
            weather,
            lost=random.choice((0.0, 0.01, 0.05, 0.15)),
            twice=random.choice((0.0, 0.02, 0.1)),
            unknown=random.choice((0.0, 0.02, 0.1)),
        )
