"""How an attempt ended: a closed sum. :mod:`workernode.settling` says for each what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from wire.control import StopReason
    from wire.errors import ErrorBody
    from wire.usage import Usage


@dataclass(frozen=True)
class Answered:
    """The engine gave a whole answer."""

    usage: Usage
    finish_reason: str | None = None


@dataclass(frozen=True)
class Refused:
    """The request itself is at fault, or failed in a way that no other node would mend. The client is told why.

    ``upstream``: what that tells of the upstream. It answered, so it is well; it was silent for long; or nothing.
    """

    error: ErrorBody
    upstream: Literal["well", "silent", "unknown"] = "well"


@dataclass(frozen=True)
class Later:
    """Not here and not now: another node, or this one after a while, may answer.

    ``said``: an upstream's own words, masked and bounded, for operators alone. ``asked``: whether the upstream was.
    """

    error: ErrorBody
    said: str = ""
    asked: bool = True


@dataclass(frozen=True)
class Cancelled:
    """The gateway said ``stop``, or is gone. ``usage`` is what was generated until then."""

    reason: StopReason | Literal["gateway_gone"]
    usage: Usage


@dataclass(frozen=True)
class Interrupted:
    """This node is going away and hands the request back."""


Outcome = Answered | Refused | Later | Cancelled | Interrupted
"""What became of an attempt. An engine returns the first three."""
