"""Where a request comes from: the client's own name for it, and the nodes of ours that it came through.

A node may have another fleet's gateway as its provider. If that is its own fleet's, its requests would come round
without end: each node adds its name to a header, and a gateway refuses what came through a node that it hears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wire.errors import InvalidName, InvalidRequest, LoopDetected
from wire.request import CLIENT_ID_CHARS_MAX, HOPS_MAX, Origin
from wire.topics import check_incarnation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VIA_HEADER = b"x-workernode-via"
CLIENT_ID_HEADERS = (b"x-client-request-id", b"x-request-id")
"""OpenAI's name for it, and the one that proxies and nodes of ours use."""


def origin(headers: Mapping[bytes, bytes], is_ours: Callable[[str], bool]) -> Origin | None:
    """What the headers tell; None if nothing. ``is_ours`` knows the nodes of this fleet.

    Raises :class:`wire.errors.LoopDetected`, or :class:`wire.errors.InvalidRequest` if a header names no nodes.
    """
    via, name = _came_through(headers, is_ours), _client_request_id(headers)
    return Origin(client_request_id=name, via=via) if via or name else None


def _came_through(headers: Mapping[bytes, bytes], is_ours: Callable[[str], bool]) -> list[str]:
    given = headers.get(VIA_HEADER)
    if given is None:
        return []
    nodes = given.decode("latin-1").replace(" ", "").split(",")
    if any(map(is_ours, nodes)):
        raise LoopDetected
    if len(nodes) > HOPS_MAX:
        raise LoopDetected(f"This request came through more than {HOPS_MAX} fleets.")
    try:
        for node in nodes:
            check_incarnation(node)
    except InvalidName:
        raise InvalidRequest("x-workernode-via must name nodes.", param="x-workernode-via") from None
    return nodes


def _client_request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """None if the request has no name, or one that may not stand in an event."""
    for header in CLIENT_ID_HEADERS:
        name = headers.get(header, b"").decode("latin-1")
        if name and len(name) <= CLIENT_ID_CHARS_MAX and name.isascii() and name.isprintable():
            return name
    return None
