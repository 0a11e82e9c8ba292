"""The product with one defence switched off. The judge must see the damage within a few seeds, or it proves nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import gateway.http.answering
import gateway.requests.conversation
import management.ledger.journal
from gateway.requests.conversation import Conversation
from gateway.requests.conversations import Conversations
from gateway.requests.decisions import Break, Show
from tests.chaos.sabotage import cheerful, mixing, no_unique_id
from wire.control import Stop
from wire.link import LinkReceiver
from workernode.record import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

    from gateway.requests.decisions import Decision
    from wire.errors import FleetError
    from wire.piece import Content

AFTERWARDS_S = 0.5


def _any_ones_pieces(self: Conversation, node: str, piece: Content) -> list[Decision]:
    """Fencing off: what a superseded attempt still says is shown as the holder's."""
    if self.state == "open" and self.holder is not None and self.holder[0] != piece.attempt_id:
        return [Show(piece.data)]
    return _content(self, node, piece)


def _as_they_come(self: LinkReceiver, first: int, frames: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """The link without its numbers: frames are handed on in the order of their coming, as often as they come."""
    self.through = max(self.through, first + len(frames) - 1)
    return frames


def _dead_at_once(self: Conversation) -> list[Decision]:
    """Nobody is asked whether he lives: a second node takes the request from the first one."""
    if self._holder is None or not self._contenders:
        return []
    self._dismiss(self._holder, Stop(attempt_id=self._holder.attempt_id, reason="superseded"))
    return self._released(0)


def _always(self: Conversations, request_id: str, error: FleetError) -> bool:
    """Without a receipt a client hears so, whoever has its request."""
    if (owned := self._owned.get(request_id)) is not None:
        owned.exchange.end = None
        owned.exchange.finish(Break(error.body()))
    return True


async def _not_waiting(self: Recorder, event: bytes) -> None:
    """The request is acknowledged, and then the charge is published."""

    async def afterwards() -> None:
        await asyncio.sleep(AFTERWARDS_S)
        await _publish(self, event)

    asyncio.get_running_loop().create_task(afterwards())


_content = Conversation.content
_publish = Recorder.publish

DEFENCES: dict[str, tuple[Any, str, Any]] = {
    "the charge before the acknowledgement": (Recorder, "publish", _not_waiting),
    "comparing the text of a second attempt": (Conversation, "_show", mixing._unseen),
    "no DONE after an error": (gateway.http.answering.Response, "end", cheerful._done_anyway),
    "ids of events": (management.ledger.journal, "fact_of", no_unique_id._always_new),
    "fencing": (Conversation, "content", _any_ones_pieces),
    "numbers of frames": (LinkReceiver, "receive", _as_they_come),
    "asking the holder": (Conversation, "_probe", _dead_at_once),
    "the limit of deaths": (gateway.requests.conversation, "SILENT_DEATHS_MAX", 6),
    "looking for a node before giving up": (Conversations, "give_up", _always),
}
"""What is switched off, and by what."""


@contextlib.contextmanager
def without(defence: str) -> Iterator[None]:
    """Switch it off while the block runs."""
    where, name, instead = DEFENCES[defence]
    before = getattr(where, name)
    setattr(where, name, instead)
    try:
        yield
    finally:
        setattr(where, name, before)
