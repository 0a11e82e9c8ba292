"""How long a gateway has owed an acknowledgement while this node could hear itself. Pure: times in, judgement out."""

from __future__ import annotations

ASK_AFTER_S = 1.0
"""So long after an acknowledgement was due, this node begins to ask for its own echo, again and again."""
ECHO_GAP_S = 1.5
"""Without an echo for this long the path was broken, for the gateway too: its silence counts anew from the next one."""


class Silence:
    """Only silence on a path that worked all the time counts. After an outage of the broker a gateway may come back
    later than this node does, and must not be taken for dead for the time before."""

    def __init__(self, lost_after_s: float) -> None:
        self.lost_after_s = lost_after_s
        self._since: float | None = None
        self._counts_from = 0.0
        self._echo_heard_at: float | None = None

    def __repr__(self) -> str:
        return f"<Silence since={self._since} counts_from={self._counts_from}>"

    def begin(self, now: float) -> None:
        """An acknowledgement is due. Harmless while it is due already."""
        if self._since is None:
            self._since = self._counts_from = now

    def end(self) -> None:
        """The gateway was heard."""
        self._since = self._echo_heard_at = None

    def asks(self, now: float) -> bool:
        """Whether to ask for the own echo now."""
        return self._since is not None and now - self._since >= min(ASK_AFTER_S, self.lost_after_s / 2)

    def echo_heard(self, now: float) -> bool:
        """The own echo came back; returns whether the gateway is gone."""
        if self._since is None:
            return False
        last = self._since + ASK_AFTER_S if self._echo_heard_at is None else self._echo_heard_at
        if now - last > ECHO_GAP_S:
            self._counts_from = now
        self._echo_heard_at = now
        return now - self._counts_from >= self.lost_after_s
