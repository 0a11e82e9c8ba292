"""What one gateway has waiting and running, said to the other gateways: they put requests into the same queues."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wire.number import INTEGER_MAX
from wire.request import Id, Millis

BACKLOG_EVERY_S = 5.0
"""A gateway reports at least this often, and at every change, though not at once after the last report."""
BACKLOG_LOST_S = 3 * BACKLOG_EVERY_S
"""What a gateway said does not count any more after this long without a report."""

Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]


class ModelBacklog(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One gateway's requests of one model. The last two only grow, for as long as the gateway runs.

    ``waiting``: published, and no node has begun them; ``oldest_ms``: since when the oldest of these is open;
    ``running``: held by a node; ``taken``: how many nodes have begun for the first time since the gateway started;
    ``accepted``: how many it has let in.
    """

    model: str
    waiting: Count = 0
    running: Count = 0
    taken: Count = 0
    accepted: Count = 0
    oldest_ms: Millis | None = None


class BacklogReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="backlog"):
    """All open requests of one gateway. Of a model that is not named it has none open."""

    gateway: Id
    sent_ms: Millis
    models: tuple[ModelBacklog, ...] = ()
