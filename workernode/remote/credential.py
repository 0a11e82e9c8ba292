"""What the nodes of one credential (a provider and a key) know of it together. Pure: the clock is given.

Each says in its heartbeat what it has learnt itself, never what it heard. What others say is believed for pacing alone,
and for as long as a heartbeat counts: a lie slows this node down, and no more.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wire.presence import PRESENCE_EVERY_S, PRESENCE_LOST_S

if TYPE_CHECKING:
    from wire.presence import CredentialPresence
    from workernode.remote.stated import Kind

PEERS_MAX = 2000
GRACE_S = 2.0
"""After the stated time one node tries. If it is not heard to fail within this, all go on."""
WAIT_S_MIN, WAIT_S_MAX = 1.0, 60.0
"""How long to wait where the provider does not say: twice as long after each try that fails."""
TOLD_S_MAX = 600.0
"""An operator's word that the credential is limited is believed for this long at most."""
TELL_AFTER_S = 1.0
"""So long after an episode began every node knows of it, and who has the lowest id of those that live."""
STEADY_S, QUIET_S = 5.0, 60.0
"""An episode is over with an answer after so long without a refusal; or where nothing was asked, after the longer."""
LOST_BEATS = round(PRESENCE_LOST_S / PRESENCE_EVERY_S)
_TAKING = frozenset(("starting", "ready", "rate_limited"))

News = Literal["limited", "recovered"]


def credential_of(host: str, key: str | None) -> str:
    """A name of provider and key: 64 bits of an HMAC, from which neither can be had."""
    return hmac.new((key or "").encode(), b"workernode credential " + host.encode(), hashlib.sha256).hexdigest()[:16]


@dataclass
class _Peer:
    said: CredentialPresence
    beat: int


@dataclass
class _Episode:
    began: float
    teller: bool | None = None
    """Whether this node tells of it; None until that is clear."""
    answered: bool = False


class Credential:
    """``name`` is :func:`credential_of`; ``node`` is this node's incarnation."""

    def __init__(self, name: str, node: str, now: float) -> None:
        self.name = name
        self.until = 0.0
        """When the provider may be asked again, once it has refused."""
        self.refused_until = 0.0
        """The same, as far as this node was refused itself."""
        self.told: dict[Kind, float | None] = {}
        """The least that other nodes have learnt of the credential's limits, per minute."""
        self._node = node
        self._born = now
        self._peers: dict[str, _Peer] = {}
        self.rank = 0
        """How many of those nodes have a lower id."""
        self._beat, self._beat_at = 0, now
        self._episode: _Episode | None = None
        self._tries = 0
        self._probed = False

    def __repr__(self) -> str:
        return f"<Credential {self.name} nodes={self.nodes} rank={self.rank} until={self.until:g} {self._episode}>"

    @property
    def nodes(self) -> int:
        """How many nodes have the credential and take work, this one included."""
        return 1 + len(self._peers)

    def limited(self, now: float) -> bool:
        """Whether the provider wants to be left alone."""
        return now < self.until

    def holds(self, now: float) -> bool:
        """Whether it is left alone, but for one node that tries."""
        return self._episode is not None and now < self.until + GRACE_S

    def wait_s(self, now: float, interval_s: float) -> float:
        """Seconds until this node may ask the provider. ``interval_s`` lies between two of its requests: after an
        episode the nodes go on one after the other, so that together they are even."""
        if self._episode is None:
            return 0.0
        if self.rank == 0 and not self._probed:
            return max(0.0, self.until - now)
        place = self.rank or self.nodes  # who tried has had its turn
        return max(0.0, self.until + GRACE_S + interval_s * place / self.nodes - now)

    def probes(self, now: float) -> bool:
        """Whether a request that is let through now is the one that tries; it counts as that from here on."""
        if self.rank or self._probed or self.limited(now) or not self.holds(now):
            return False
        self._probed = True
        return True

    def refused(self, wait_s: float | None, sent_at: float, now: float) -> bool:
        """The provider refused a call of ``sent_at`` for the rate, and wants to be left alone for ``wait_s``, if it
        says. Returns whether that is news of the pace, and no try that failed or call that was under way."""
        under_way = sent_at < self.until
        if under_way and (wait_s is None or now >= self.until):
            return False
        if not under_way:
            self._tries = 0 if self._episode is None else self._tries + 1
        if wait_s is None:
            # The greatest wait comes long before the tenth try; after a thousand, no float would hold the power.
            wait_s = min(WAIT_S_MIN * 2 ** min(self._tries, 10), WAIT_S_MAX)
        self.refused_until = max(self.refused_until, now + max(wait_s, WAIT_S_MIN))
        return self._wait_until(self.refused_until, now)

    def accepted(self, sent_at: float) -> None:
        """The provider took a call of ``sent_at``."""
        if self._episode is not None and sent_at >= self.until:
            self._episode.answered = True

    def warned(self, for_s: float, now: float) -> bool:
        """An operator says that the credential is limited for so long. Returns whether that is news."""
        return for_s > 0 and self._wait_until(now + min(for_s, TOLD_S_MAX), now)

    def heard(self, said: CredentialPresence, now: float) -> bool:
        """Take a heartbeat, this node's own too. Returns whether it tells of a refusal that is news."""
        if said.node == self._node:
            self._own_beat(now)
            return False
        before = self._peers.get(said.node)
        if before is not None and said.sent_ms < before.said.sent_ms:
            return False
        if said.credential != self.name or said.state not in _TAKING:
            self._leave(said.node)
        elif before is not None or len(self._peers) < PEERS_MAX:
            self._peers[said.node] = _Peer(said, self._beat)
            self.rank += before is None and said.node < self._node
            if _limits(said) != ((None, None) if before is None else _limits(before.said)):
                self._compare()
        if said.credential != self.name or said.limited_until_ms is None:
            return False
        known = before is not None and said.limited_until_ms <= (before.said.limited_until_ms or 0)
        for_s = min((said.limited_until_ms - said.sent_ms) / 1000, PRESENCE_LOST_S)
        if for_s <= 0:
            return False
        if self._episode is None and before is None and now - self._born < PRESENCE_EVERY_S:
            self._episode = _Episode(now, teller=False)  # it began before this node, and was told of
        return self._wait_until(now + for_s, now) and not known

    def tick(self, now: float) -> News | None:
        """What this node shall tell management now. To be asked about every second."""
        episode = self._episode
        if episode is None:
            return None
        if episode.teller is None and now >= episode.began + TELL_AFTER_S:
            # A node that died just now seems to live: only those that say they know of it can tell.
            lower = (peer.said.state for node, peer in self._peers.items() if node < self._node)
            episode.teller = "rate_limited" not in lower
            return "limited" if episode.teller else None
        quiet_s = now - self.until
        if quiet_s >= (STEADY_S if episode.answered else QUIET_S):
            self._episode = None
            return "recovered" if episode.teller else None
        return None

    def _wait_until(self, until: float, now: float) -> bool:
        """Returns whether it is news of the pace: all nodes were asking, and not one that tried."""
        news = self._episode is None or now >= self.until + GRACE_S
        if self._episode is None:
            self._episode = _Episode(now)
        if until > self.until:
            if now >= self.until:
                self._probed = False
            self.until = until
            self._episode.answered = False
        return news

    def _own_beat(self, now: float) -> None:
        """Others count as gone by their silence only while this node hears itself: an outage says nothing of them."""
        if now - self._beat_at < PRESENCE_EVERY_S * 0.9:
            return
        self._beat, self._beat_at = self._beat + 1, now
        for node in [node for node, peer in self._peers.items() if self._beat - peer.beat > LOST_BEATS]:
            self._leave(node)

    def _leave(self, node: str) -> None:
        if self._peers.pop(node, None) is not None:
            self.rank -= node < self._node
            self._compare()

    def _compare(self) -> None:
        said = [_limits(peer.said) for peer in self._peers.values()]
        self.told["requests"] = min((requests for requests, _ in said if requests), default=None)
        self.told["tokens"] = min((tokens for _, tokens in said if tokens), default=None)


def _limits(said: CredentialPresence) -> tuple[int | None, int | None]:
    return said.requests_per_min, said.tokens_per_min
