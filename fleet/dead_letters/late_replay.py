"""For management: the gateway's modules are read by the first replay, and by no management that never replays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.interface import Broker
    from dead_letters.deciding import Replayed
    from wire.request import Request
    from wire.topics import Topics


async def replay(broker: Broker, topics: Topics, request: Request, timeout_s: float) -> Replayed:
    """See :func:`fleet.dead_letters.replay.replay`."""
    from fleet.dead_letters.replay import replay as again

    return await again(broker, topics, request, timeout_s)
