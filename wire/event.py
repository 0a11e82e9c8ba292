"""What management hears: CloudEvents 1.0 in structured JSON, with deterministic ids, on the results topic.

A request has one *charge* (``request.billed``, its id derived from the request) and any number of *cost* events, one
per attempt that was not accepted. Ids depend on nothing but what is told, so that telling twice is counted once.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from wire.number import INTEGER_MAX
from wire.request import Endpoint, Id, Millis, Tags
from wire.usage import Usage

PREFIX = "io.workernode."

RequestEventType = Literal[
    "request.billed",
    "request.failed",
    "request.cost",
    "request.cancelled",
    "request.expired",
    "request.dead",
    "request.abandoned",
    "request.replayed",
    "request.discarded",
]
NodeEventType = Literal[
    "node.started",
    "node.rate_limited",
    "node.quota_exhausted",
    "node.authentication_failed",
    "node.misconfigured",
    "node.unreachable",
    "node.engine_died",
    "node.recovered",
    "node.draining",
    "node.stopped",
    "node.quarantined",
]
GatewayEventType = Literal["gateway.refusals"]
AcceptedEventType = Literal["gateway.accepted"]
PromptEventType = Literal["request.prompt"]
EventType = RequestEventType | NodeEventType | GatewayEventType | AcceptedEventType | PromptEventType

Status = Literal[
    "answered", "refused", "failed", "cancelled", "expired", "superseded", "handed_back", "abandoned", "dead"
]
"""How the request, or the attempt that an event tells about, ended."""

EVENT_BYTES_MAX = 64 * 1024
ACCEPTED_MAX = 1_000
"""Requests that one ``gateway.accepted`` names."""
PROMPT_BYTES_MAX = 44 * 1024
"""What a prompt's event holds of a body: with base64 and envelope it stays below :data:`EVENT_BYTES_MAX`."""
Short = Annotated[str, msgspec.Meta(max_length=512)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]


class Times(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When each stage was reached, Unix milliseconds. The first two by the gateway's clock, the rest by the node's.

    ``settled_ms`` is when the attempt's end, and with it the charge's content, was fixed.
    """

    received_ms: Millis | None = None
    published_ms: Millis | None = None
    taken_ms: Millis | None = None
    first_token_ms: Millis | None = None
    last_token_ms: Millis | None = None
    settled_ms: Millis | None = None

    def durations(self) -> Durations:
        """How long each stage took. Negative differences of skewed clocks count as 0."""
        return Durations(
            publish_ms=_between(self.received_ms, self.published_ms),
            queue_ms=_between(self.published_ms, self.taken_ms),
            first_token_ms=_between(self.taken_ms, self.first_token_ms),
            generation_ms=_between(self.first_token_ms, self.last_token_ms),
            settle_ms=_between(self.last_token_ms, self.settled_ms),
            total_ms=_between(self.received_ms, self.settled_ms),
        )


class Durations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Milliseconds between two stages of :class:`Times`; absent where one of them was never reached."""

    publish_ms: Millis | None = None
    queue_ms: Millis | None = None
    first_token_ms: Millis | None = None
    generation_ms: Millis | None = None
    settle_ms: Millis | None = None
    total_ms: Millis | None = None


def _between(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else max(0, end - start)


class RequestData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request event tells. Never a prompt, an answer or a key: ``key_id`` only names the key."""

    request_id: Id
    endpoint: Short
    model: Short
    status: Status
    stream: bool = False
    attempt_id: Id | None = None
    attempt: int | None = None
    usage: Usage = Usage()
    times: Times = Times()
    durations: Durations = Durations()
    finish_reason: Short | None = None
    error_code: Short | None = None
    message: Text | None = None
    key_id: Short | None = None
    user_agent: Short | None = None
    client_request_id: Short | None = None
    node: Short | None = None
    node_type: Short | None = None
    host: Short | None = None
    version: Short | None = None
    upstream_model: Short | None = None
    provider: Short | None = None
    body_bytes: int | None = None
    answer_bytes: int | None = None
    n: int | None = None
    max_tokens: int | None = None
    images: int | None = None
    tags: Tags = {}


class PromptData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client sent, as far as :data:`PROMPT_BYTES_MAX`. Told only by a gateway with ``STORE_PROMPTS=true``.

    ``body_bytes`` is the size of the whole body.
    """

    request_id: Id
    model: Short
    endpoint: Endpoint
    body: Annotated[bytes, msgspec.Meta(max_length=PROMPT_BYTES_MAX)]
    body_bytes: int
    key_id: Short | None = None


class NodeData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node event tells. ``message`` is a sentence for people: what happened, which setting, what to do."""

    node: Short
    name: Short
    model: Short
    node_type: Short
    version: Short
    host: Short | None = None
    provider: Short | None = None
    message: Text | None = None
    error_code: Short | None = None
    until_ms: Millis | None = None


class GatewayData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a gateway refused before it owned anything, wrong keys among it, between two moments. No event for each one:
    whoever knocks on the door must not be able to fill the ledger.

    ``refused`` counts answers by their HTTP status.
    """

    gateway: Short
    version: Short
    since_ms: Millis
    until_ms: Millis
    refused: dict[Annotated[str, msgspec.Meta(max_length=3)], Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]]


class AcceptedData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which requests a gateway took in between two moments: each of them owes the ledger an end."""

    gateway: Short
    since_ms: Millis
    until_ms: Millis
    requests: Annotated[list[Id], msgspec.Meta(max_length=ACCEPTED_MAX)]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The CloudEvents envelope: ``type`` is :data:`PREFIX` and an :data:`EventType`, ``time`` is RFC 3339 in UTC."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    source: Short
    type: Annotated[str, msgspec.Meta(max_length=100)]
    time: Annotated[str, msgspec.Meta(max_length=40)]
    subject: Short
    data: msgspec.Raw
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"


def charge_id(request_id: str) -> str:
    """The id of a request's one charge."""
    return f"charge-{request_id}"


def attempt_event_id(kind: RequestEventType, attempt_id: str) -> str:
    """The id of what is told about one attempt."""
    return f"{kind.partition('.')[2]}-{attempt_id}"


def request_event_id(kind: RequestEventType, request_id: str) -> str:
    """The id of what a gateway tells about a whole request."""
    return f"{kind.partition('.')[2]}-{request_id}"
