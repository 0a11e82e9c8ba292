"""What the REST API answers: the models behind its OpenAPI document.

Times are Unix milliseconds by the clock of whoever told them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from management.api.fleet_answers import LastError, OrderShown, RunningShown
from management.api.money_answers import Amount
from management.reading.questions import EndStatus


class Charge(BaseModel):
    """What one request is billed for, and how it went."""

    request_id: str
    time_ms: int = Field(description="When the charge was told.")
    model: str
    key_id: str | None
    node: str | None
    endpoint: str
    status: str
    stream: bool
    finish_reason: str | None
    error_code: str | None
    attempt_id: str | None
    attempt: int | None = Field(description="Which attempt of the request it is, from 1.")
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = Field(description="Part of the prompt tokens.")
    reasoning_tokens: int = Field(description="Part of the completion tokens.")
    estimated: bool = Field(description="The node counted the tokens itself.")
    n: int | None
    max_tokens: int | None
    upstream_model: str | None
    provider: str | None
    node_type: str | None
    host: str | None
    version: str | None
    user_agent: str | None
    body_bytes: int | None
    answer_bytes: int | None
    received_at_ms: int | None
    published_at_ms: int | None
    taken_at_ms: int | None
    first_token_at_ms: int | None
    last_token_at_ms: int | None
    settled_at_ms: int | None
    publish_ms: int | None
    queue_ms: int | None
    first_token_ms: int | None
    generation_ms: int | None
    settle_ms: int | None
    total_ms: int | None
    images: int | None = Field(description="That its prompt shows.")
    tags: dict[str, str]
    amount: Amount | None = Field(description="What it costs the customer; null where there is no price for it.")
    currency: str | None
    price_version: str | None = Field(description="Of the prices that it was priced by.")


class Charges(BaseModel):
    """A page of charges, the newest first."""

    data: list[Charge]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Quarantined(BaseModel):
    """A message that is no event: nothing but its digest is known."""

    digest: str = Field(description="SHA-256, in hexadecimal digits.")
    size_bytes: int
    reason: str
    first_seen_ms: int
    last_seen_ms: int
    count: int


class Quarantine(BaseModel):
    """What was put aside, the last seen first."""

    data: list[Quarantined]


class Prompt(BaseModel):
    """What a client sent."""

    request_id: str
    time_ms: int
    model: str
    key_id: str | None
    endpoint: str
    body: str = Field(description="Its beginning, if `body_bytes` are more.")
    body_bytes: int


class StoredEvent(BaseModel):
    """A fact as it was told."""

    position: int = Field(description="Its place in the ledger.")
    stored_ms: int = Field(description="When the ledger stored it.")
    event: dict[str, Any] = Field(description="The CloudEvent, byte for byte.")


class Events(BaseModel):
    """A page of events, the newest first."""

    data: list[StoredEvent]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class End(BaseModel):
    """How a request ended. Of several ends that were told a charge counts, then the weightiest, then the earliest."""

    request_id: str
    status: EndStatus
    time_ms: int = Field(description="When it was told.")
    model: str
    key_id: str | None
    node: str | None


class Ends(BaseModel):
    """A page of ends, the newest first."""

    data: list[End]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class RequestTimeline(BaseModel):
    """Everything that is known of one request."""

    request_id: str
    end: End | None = Field(description="Null while it is not known how it ended.")
    charge: Charge | None = Field(description="Null if nobody pays for it, or if it is kept no longer.")
    events: list[StoredEvent] = Field(description="The oldest first, 200 at most.")


class LastEvent(BaseModel):
    """What was told last about a node."""

    type: str
    time_ms: int
    message: str | None
    error_code: str | None
    until_ms: int | None


class Node(BaseModel):
    """One start of one node: what its heartbeats say while it is there, and what was told last about it."""

    node: str
    name: str
    model: str
    type: str
    version: str
    provider: str | None
    host: str | None = Field(None, description="The machine it runs on.")
    present: bool = Field(description="Whether its heartbeats are heard.")
    heard_ms_ago: int | None = None
    state: str | None = None
    since_ms: int | None = Field(None, description="When the state began.")
    sentence: str | None = Field(None, description="Explains a state that is not `ready`.")
    until_ms: int | None = Field(None, description="When a rate limit ends.")
    started_ms: int | None = None
    slots: int | None = None
    busy: int | None = None
    parked: int | None = None
    service_ms: int | None = Field(None, description="How long one request holds one slot, smoothed.")
    endpoints: list[str] = []
    modalities: list[str] = []
    context_length: int | None = None
    running: list[RunningShown] = Field([], description="The oldest requests at work, 20 at most.")
    last_event: LastEvent | None
    last_error: LastError | None
    order: OrderShown | None = Field(None, description="What an operator wants of it now.")


class Nodes(BaseModel):
    """All nodes that are there, then the latest of those that are not."""

    data: list[Node]


class Error(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """Every answer that is not 2xx."""

    error: Error
