"""A node's heartbeat: who is there, for which model, in what state, with how much room."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from wire.number import INTEGER_MAX
from wire.request import Id, Millis
from wire.usage import Tokens

PRESENCE_EVERY_S = 5.0
"""A heartbeat comes at least this often, and at every change of state."""
PRESENCE_LOST_S = 3 * PRESENCE_EVERY_S
"""A node is taken for gone after this long without a heartbeat."""

NodeState = Literal[
    "starting",
    "ready",
    "rate_limited",
    "quota_exhausted",
    "authentication_failed",
    "misconfigured",
    "unreachable",
    "paused",
    "draining",
    "stopped",
]
IRREVERSIBLE: frozenset[NodeState] = frozenset(("quota_exhausted", "authentication_failed", "misconfigured"))
"""States that last until someone acts: a request has nothing to wait for."""


PLACES_MAX = 1_000_000
RUNNING_TOLD_MAX = 20
"""Requests that a heartbeat names: the oldest ones."""
PRESENCE_BYTES_MAX = 16 * 1024
"""Of a heartbeat: many times what a node has to say. Whoever listens keeps the last one of each node."""
Places = Annotated[int, msgspec.Meta(ge=0, le=PLACES_MAX)]
PerMin = Annotated[int, msgspec.Meta(ge=1, le=INTEGER_MAX)]


class RunningRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has a slot, and since when by the node's clock."""

    request_id: Id
    taken_ms: Millis


class Presence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="presence"):
    """One heartbeat. ``node`` is fresh at every start of the process; ``name`` is what people call it, ``host`` where
    it runs.

    ``sentence`` explains a state that is not ``ready``, for people; ``since_ms`` is when the state began; ``until_ms``
    when a node in trouble tries again by itself, and thus has use for a request. ``continues``: its engine can go on
    after a given text. ``slots`` is how many requests it works on at once, at the pace of its provider's limits where
    there are some; ``busy`` counts taken slots, and ``running`` names the requests that have had one for longest;
    ``service_ms`` is the smoothed time that one request holds one slot, from its delivery to the end of the work, or
    more where a provider's limits leave a slot idle after it: by ``slots / service_ms`` gateways know how long a queue
    takes. ``counts``: it answers ``count``.

    ``credential`` names provider and key, and tells neither. The last three say what this node itself has learnt of the
    credential's limits, whole and not its share, and until when the provider refuses it.
    """

    node: Id
    name: str
    model: str
    type: Literal["static", "remote", "local"]
    version: str
    state: NodeState
    slots: Places
    sent_ms: Millis
    started_ms: Millis
    busy: Places = 0
    parked: Places = 0
    service_ms: Millis | None = None
    sentence: str | None = None
    until_ms: Millis | None = None
    since_ms: Millis | None = None
    host: str | None = None
    running: Annotated[tuple[RunningRequest, ...], msgspec.Meta(max_length=RUNNING_TOLD_MAX)] = ()
    endpoints: tuple[str, ...] = ("chat/completions",)
    modalities: tuple[str, ...] = ("text",)
    context_length: Tokens | None = None
    continues: bool = False
    counts: bool = False
    provider: str | None = None
    credential: str | None = None
    requests_per_min: PerMin | None = None
    tokens_per_min: PerMin | None = None
    limited_until_ms: Millis | None = None


class CredentialPresence(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="presence"):
    """The part of a :class:`Presence` that other nodes of its credential read."""

    node: Id
    state: str
    sent_ms: Millis
    credential: str | None = None
    requests_per_min: PerMin | None = None
    tokens_per_min: PerMin | None = None
    limited_until_ms: Millis | None = None


class RollCall(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="roll-call"):
    """Whoever starts to listen asks every node for a heartbeat at once."""

    sender: Id
