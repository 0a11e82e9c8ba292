"""What was said on the topics, as somebody on the wire would hear it: what was published, who was told to begin it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.fault import Fault
    from tests.simulation.life import Life

HEARD_AGAIN_S = 1.0
"""Until so long after it came back, a node may be judged by its silence before."""


class Overheard:
    """Fed with every message, dropped or not."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        """By incarnation of a node."""
        self.published: dict[str, str] = {}
        """Ids of requests that went to a request topic, by what their clients called themselves."""
        self._requests: dict[str, str] = {}
        self._told: dict[str, dict[str, tuple[Life, float]]] = {}
        self._fenced: dict[str, tuple[Life, float]] = {}

    def hear(self, topic: str, payload: bytes, at: float) -> None:
        """A message was sent."""
        local = topic.rpartition("/")[2]
        role, _, whom = local.partition(".")
        if role == "requests":
            request = _map(payload)
            self.published[request["user_agent"]] = request["request_id"]
        elif role == "link":
            for frame in _map(payload).get("frames", ()):
                if frame["kind"] == "started":
                    self._requests[frame["attempt_id"]] = frame["request_id"]
        elif role == "control":
            for word in _map(payload).get("words", ()):
                if whom not in self.lives:
                    continue
                attempt_id, said = word.get("attempt_id", ""), (self.lives[whom], at)
                if word["kind"] == "go":
                    self._told.setdefault(self._requests.get(attempt_id, ""), {}).setdefault(attempt_id, said)
                elif word["kind"] == "stop" and word["reason"] == "superseded":
                    self._fenced.setdefault(attempt_id, said)

    def silent(self, faults: Sequence[Fault]) -> dict[str, int]:
        """Of each request: how many attempts were told to begin on nodes that then died, or were not to be heard."""
        return {
            request_id: sum(_fell_silent(life, since, faults) for life, since in told.values())
            for request_id, told in self._told.items()
        }

    def fenced_alive(self, faults: Sequence[Fault]) -> dict[str, int]:
        """Of each request: how many attempts were fenced whose node lived and could be heard, as words were lost."""
        fenced = [each for each, (life, at) in self._fenced.items() if not _fell_silent(life, at, faults)]
        return Counter(self._requests.get(attempt_id, "") for attempt_id in fenced)


def _fell_silent(life: Life, since: float, faults: Sequence[Fault]) -> bool:
    """Whether it died, or could not be heard at some time after ``since``, or shortly before it."""
    return life.died_at is not None or any(
        fault.whom in (life.name, "") and fault.until is not None and fault.until >= since - HEARD_AGAIN_S
        for fault in faults
    )


def _map(payload: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode(payload[1:])
    return found
