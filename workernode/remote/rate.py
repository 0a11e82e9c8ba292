"""One limit per minute of a credential, as far as it is known, and this node's share of it. Pure: the clock is given.

What is known comes from four places: the setting, the provider's headers, what other nodes say, and the provider's
refusals. The first three are a bound; a refusal says that even less is to be had, for a while at least.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workernode.remote.bucket import Bucket
from workernode.remote.minute import Minute
from workernode.remote.stated import MINUTE_S

if TYPE_CHECKING:
    from workernode.remote.stated import Stated

USED_PART = 0.98
"""Of its share a node uses this much evenly; the rest may come at once, so that no minute has more than the share."""
NEAR_PART = 0.05
"""With less than this left of a window, what is left is spread over the rest of it."""
REST_S_MAX = 60.0
"""Headers that speak of nothing left are believed for this long; then one more request asks for new ones."""
PER_MIN_MIN = 0.1
"""A share is never less, whatever other nodes say."""
WHOLE_MAX = 10_000
"""Above this a limit is shared to the fraction: tokens, mostly."""
REFUSED_AGAIN_PART = 0.9
"""Refused at a pace that should do, a node goes on as before; refused again within a minute, so much slower."""
FOUND_PART, FOUND_PART_MIN = 0.95, 0.5
"""What a refusal shows of a limit that nobody states: a little less than what went through in the last minute, but no
less than the second part of what was thought before."""
GUESS_MIN = 20.0
"""The first refusal in a minute with few requests shows little: the limit is taken for no less than this."""
SURE_PART = 0.25
"""Two refusals in a row that show the same but for this part make sure what was a guess."""
_KNOWN_GROWTH, _SURE_GROWTH, _GUESS_GROWTH = (1.01, 0.0), (1.02, 600.0), (2.0, 60.0)
"""How a limit that refusals lowered grows again: by this factor a minute, after so many seconds."""
DOUBLINGS_MAX = 50.0
"""After so many doublings it is no limit any more: nobody has one so great, and after a thousand no float holds it."""


class Rate:
    """``configured`` is the setting, per minute; None where there is none."""

    def __init__(self, configured: float | None) -> None:
        self.nodes, self.rank = 1, 0
        """How many nodes share the limit, and how many of them come before this one."""
        self.told: float | None = None
        """What other nodes say of the limit, for one that knows nothing itself."""
        self._configured = self._bound = configured  # the latter also by what is stated
        self._found: float | None = None
        self._found_at = 0.0
        self._refused_at = -math.inf
        self._growth = _KNOWN_GROWTH
        self._near_per_s: float | None = None
        self._near_until = 0.0
        self._rest_until = 0.0
        self._used = Minute()
        self._bucket: Bucket | None = None

    def __repr__(self) -> str:
        return f"<Rate bound={self._bound} found={self._found} {self._bucket}>"

    def known(self, now: float) -> float | None:
        """The limit of the whole credential, per minute, by what this node has learnt or was set to."""
        if self._found is None:
            return self._bound
        factor, after_s = self._growth
        minutes = max(0.0, now - self._found_at - after_s) / MINUTE_S
        if minutes * math.log2(factor) > DOUBLINGS_MAX:
            return self._bound
        found: float = self._found * factor**minutes
        return found if self._bound is None else min(found, self._bound)

    def limit(self, now: float) -> float | None:
        """The same, or what other nodes say."""
        known = self._bound if self._found is None else self.known(now)
        return self.told if known is None else known

    def available(self, now: float) -> float | None:
        """What this node may take at once; None without a limit."""
        bucket = self._paced(now)
        return None if bucket is None else max(0.0, bucket.available(now))

    def per_s(self, now: float) -> float | None:
        """This node's pace."""
        bucket = self._paced(now)
        return None if bucket is None else bucket.per_s

    def wait_s(self, amount: float, now: float, *, held: float = 0.0) -> float:
        """Seconds until ``amount`` may be taken while ``held`` is kept for others: 0 now, infinite not before some of
        that is taken or given back."""
        bucket, rest_s = self._paced(now), self.rest_s(now)
        if bucket is None:
            return rest_s
        # Evenly, and never more than a minute's share within a minute, even if the share was greater just before.
        share = bucket.per_s / USED_PART * MINUTE_S
        used_s = self._used.wait_s(share - min(amount + held, share), now)
        return max(rest_s, used_s, bucket.wait_s(amount, now, held=held))

    def rest_s(self, now: float) -> float:
        """For how long nothing is left, by what the provider states."""
        return max(0.0, self._rest_until - now)

    def take(self, amount: float, now: float) -> None:
        """Count it; negative to give it back."""
        bucket = self._paced(now)
        self._used.add(amount, now)
        if bucket is not None:
            bucket.take(amount, now)

    def learn(self, said: Stated, now: float) -> None:
        """Take what the provider states."""
        per_min, limit, remaining, reset_s = said.per_min, said.limit, said.remaining, said.reset_s
        if per_min is not None:
            self._bound = per_min if self._configured is None else min(per_min, self._configured)
        if remaining is None or not reset_s or said.is_bucket:
            return
        if remaining <= 0:
            self._rest_until = now + min(reset_s, REST_S_MAX)
        elif limit is not None and per_min is not None and remaining <= limit * NEAR_PART:
            self._near_per_s, self._near_until = remaining / reset_s, now + reset_s
        else:
            self._near_per_s = None

    def refused(self, wait_s: float, now: float) -> None:
        """The provider refused for the rate, and wants to be left alone for so long: go on slower."""
        limit, refused_at = self.limit(now), self._refused_at
        self._refused_at = now + wait_s
        if self._bound is not None:
            assert limit is not None
            if now - refused_at > MINUTE_S:
                return
            found, self._growth = limit * REFUSED_AGAIN_PART, _KNOWN_GROWTH
        else:
            went = self._used.total(now) * self.nodes
            sure = self._found is not None and abs(went - self._found) < self._found * SURE_PART
            self._growth = _SURE_GROWTH if sure else _GUESS_GROWTH
            found = went * FOUND_PART
            if limit is None:
                found = max(found, GUESS_MIN)
            else:
                again = REFUSED_AGAIN_PART if now - refused_at < MINUTE_S else FOUND_PART
                found = max(min(found, limit * again), limit * FOUND_PART_MIN)
        self._found, self._found_at = max(found, PER_MIN_MIN), now + wait_s

    def _paced(self, now: float) -> Bucket | None:
        """The bucket at the present pace."""
        limit = self.limit(now)
        if limit is None:
            self._bucket = None
            return None
        per_s = max(self._share(limit), PER_MIN_MIN) * USED_PART / MINUTE_S
        if self._near_per_s is not None and now < self._near_until:
            per_s = min(per_s, self._near_per_s / self.nodes)
        if self._bucket is None:
            self._bucket = Bucket(per_s, _burst(per_s), now, owed=self._used.total(now))
        elif abs(per_s - self._bucket.per_s) > self._bucket.per_s * 0.001:
            self._bucket.change(per_s, _burst(per_s), now)
        return self._bucket

    def _share(self, limit: float) -> float:
        """The first nodes have one more a minute than the others where that comes out even: were each to have its
        fraction, all might use theirs in the same minute."""
        if limit < self.nodes or limit > WHOLE_MAX:
            return limit / self.nodes
        return int(limit) // self.nodes + (self.rank < int(limit) % self.nodes)


def _burst(per_s: float) -> float:
    return max(1.0, per_s * MINUTE_S * (1 / USED_PART - 1))
