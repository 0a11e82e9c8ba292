"""How the upstream is doing, judged by the outcomes of requests: when to stop taking work, and when to try again.

Pure: outcomes in, decisions out. An episode of trouble has one beginning and one end, whatever happens between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wire.errors import EngineAway, EngineDied, ErrorBody, UpstreamFailed
from workernode.outcome import Answered, Later, Refused

if TYPE_CHECKING:
    from wire.event import NodeEventType
    from wire.presence import NodeState
    from workernode.outcome import Outcome

TRY_AGAIN_S_MIN = 1.0
TRY_AGAIN_S_MAX = 60.0
RETRY_AFTER_S_MAX = 600.0
"""Of what a provider itself says, no more is waited for."""
FAILURES_IN_A_ROW = 5
"""An upstream that fails this often without a success between is left alone for a while."""

SILENT = "The provider of this model did not begin an answer within FIRST_TOKEN_TIMEOUT_S."

Trouble = Literal["quota_exhausted", "authentication_failed", "misconfigured", "unreachable"]

_TROUBLES: dict[str, Trouble] = {
    "upstream_authentication_failed": "authentication_failed",
    "upstream_model_unknown": "misconfigured",
    "upstream_quota_exhausted": "quota_exhausted",
    "upstream_tls_failed": "misconfigured",
}
TROUBLE_EVENTS: dict[Trouble, NodeEventType] = {
    "authentication_failed": "node.authentication_failed",
    "misconfigured": "node.misconfigured",
    "quota_exhausted": "node.quota_exhausted",
    "unreachable": "node.unreachable",
}
"""Which event begins an episode."""
_REMEDIES: dict[Trouble, str] = {
    "authentication_failed": "Write a valid key to API_KEY_FILE, or set API_KEY and restart the node.",
    "misconfigured": "Check API_URL and UPSTREAM_MODEL and restart the node.",
    "quota_exhausted": "Add quota or credit at the provider.",
    "unreachable": "Check API_URL and the provider; the node tries again by itself.",
}

_REMEDIES_OF: dict[str, str] = {
    "upstream_model_unknown": "Set UPSTREAM_MODEL to a name that the provider knows and restart the node.",
    "upstream_tls_failed": "Check API_URL; SSL_CERT_FILE names the certificates of an authority of your own.",
}
"""By code, where a state has several."""

_NOT_THE_UPSTREAM = ("cannot_continue", EngineDied.code, EngineAway.code)
"""It was never asked, or whoever keeps the engine tells of it."""


@dataclass(frozen=True)
class Worse:
    """Trouble begins or goes on: take nothing for ``again_s`` seconds. ``news``: nobody was told of it yet.

    ``sentence`` is ours; ``said`` is the upstream's, for operators alone.
    """

    state: Trouble
    sentence: str
    again_s: float
    news: bool
    said: str = ""


@dataclass(frozen=True)
class Better:
    """The episode is over."""

    sentence: str


class Condition:
    """Feed it every outcome; it returns what changes."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self._failures = 0
        self._tries = 0
        self._told = ("", "")

    def __repr__(self) -> str:
        return f"<Condition {self.trouble or 'well'} failures={self._failures} tries={self._tries}>"

    @property
    def state(self) -> NodeState:
        """The node's state as far as its upstream decides it."""
        return self.trouble or "ready"

    def after(self, outcome: Outcome, *, trying: bool) -> Worse | Better | None:
        """What an outcome changes. ``trying``: its request was let in to see whether the upstream is well again."""
        match outcome:
            case Later(asked=False):
                return None
            case Answered() | Refused(upstream="well") | Later(ErrorBody(code="upstream_rate_limited")):
                # Who limits the rate is there, and knows the key; what follows is the pace's business.
                self._failures = self._tries = 0
                if self.trouble is None:
                    return None
                self.trouble = None
                return Better("The provider answers again.")
            case Later(error, said) if error.code not in _NOT_THE_UPSTREAM:
                return self._worse(error, said, trying=trying)
            case Refused(upstream="silent"):
                return self._worse(UpstreamFailed(SILENT).body(), "", trying=trying)
            case _:
                return None  # a cancelled or interrupted attempt says nothing about the upstream, nor what we refuse

    def _worse(self, error: ErrorBody, said: str, *, trying: bool) -> Worse | None:
        trouble = _TROUBLES.get(error.code, "unreachable")
        told = f"{error.message} {_REMEDIES_OF.get(error.code) or _REMEDIES[trouble]}", said
        if trouble == "unreachable" and self.trouble is not None:
            # A try that met with something else has not shown that the trouble before it is over.
            trouble, told = self.trouble, self._told
        if trouble == self.trouble and not trying:
            return None  # one of many that were under way when it began
        self._failures += 1
        if trouble == "unreachable" and self._failures < FAILURES_IN_A_ROW:
            return None
        news = trouble != self.trouble
        self.trouble, self._told = trouble, told
        again_s = min(TRY_AGAIN_S_MIN * 2**self._tries, TRY_AGAIN_S_MAX)
        self._tries = min(self._tries + 1, 10)
        if error.retry_after_ms is not None:
            # A page of maintenance may say a day; one request now and then finds out whether that is so.
            again_s = max(again_s, min(error.retry_after_ms / 1000, RETRY_AFTER_S_MAX))
        return Worse(trouble, told[0], again_s, news, told[1])
