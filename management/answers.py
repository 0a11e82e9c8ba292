"""What the REST API answers, and what it may be asked: the models behind its OpenAPI document.

Times are Unix milliseconds by the clock of whoever told them.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
CURSOR = "`next_cursor` of the page before."


def _without_nul(text: str) -> str:
    # PostgreSQL has no place for it, so no stored text can match.
    if "\0" in text:
        raise ValueError("it must not contain U+0000")
    return text


def _written_out(value: object) -> object:
    # A bare number would be taken for seconds or milliseconds since 1970, by its size.
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("it is written as 2026-03-01T12:00:00Z, or as 2026-03-01 where only days count")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_written_out)]
Day = Annotated[datetime.date, BeforeValidator(_written_out)]
Text = Annotated[str, Field(max_length=512), AfterValidator(_without_nul)]
EndStatus = Literal["answered", "failed", "cancelled", "expired", "dead", "abandoned"]
"""How a request ended."""
By = Literal["model", "key", "node", "day"]


class Question(BaseModel):
    """What every list may be asked. A parameter that is not known is refused: it would silently filter nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChargesQuestion(Question):
    """Filters of ``/api/v1/charges``."""

    model: Text | None = None
    key_id: Text | None = None
    node: Text | None = None
    request_id: Text | None = None
    since: Time | None = Field(None, description="The earliest time, RFC 3339 with a zone.")
    until: Time | None = Field(None, description="The time before which they lie, RFC 3339 with a zone.")
    limit: int = Field(100, ge=1, le=1000, description="Charges per page.")
    cursor: Text | None = Field(None, description=CURSOR)


class EventsQuestion(Question):
    """Filters of ``/api/v1/events``."""

    type: Text | None = Field(None, description="For example `request.failed`, or a whole type as it was sent.")
    request_id: Text | None = None
    node: Text | None = None
    model: Text | None = None
    # Each of them may have 64 KiB.
    limit: int = Field(100, ge=1, le=200, description="Events per page.")
    cursor: Text | None = Field(None, description=CURSOR)


class EndsQuestion(Question):
    """Filters of ``/api/v1/ends``."""

    status: EndStatus | None = None
    model: Text | None = None
    key_id: Text | None = None
    node: Text | None = None
    since: Time | None = Field(None, description="The earliest time, RFC 3339 with a zone.")
    until: Time | None = Field(None, description="The time before which they lie, RFC 3339 with a zone.")
    limit: int = Field(100, ge=1, le=1000, description="Ends per page.")
    cursor: Text | None = Field(None, description=CURSOR)


class UsageQuestion(Question):
    """Filters of ``/api/v1/usage``."""

    by: list[By] = Field([], max_length=4, description="What to group by; repeat it to combine. Without it: one total.")
    model: Text | None = None
    key_id: Text | None = None
    node: Text | None = None
    since: Day | None = Field(None, description="The first day, in UTC.")
    until: Day | None = Field(None, description="The last day, in UTC.")
    limit: int = Field(1000, ge=1, le=1000, description="Rows per page.")
    cursor: Text | None = Field(None, description=CURSOR)


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


class Charges(BaseModel):
    """A page of charges, the newest first."""

    data: list[Charge]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Usage(BaseModel):
    """Sums of charges. The fields that were not grouped by are absent; an empty key or node stands for none."""

    day: datetime.date | None = None
    model: str | None = None
    key_id: str | None = None
    node: str | None = None
    requests: int
    estimated_requests: int = Field(description="Those whose tokens the node counted itself.")
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    body_bytes: int
    answer_bytes: int


class Usages(BaseModel):
    """A page of sums, in the order of what they are grouped by."""

    data: list[Usage]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


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
    """How a request ended: the first end that was told."""

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
    charge: Charge | None = Field(description="Null if nobody pays for it.")
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
    present: bool = Field(description="Whether its heartbeats are heard.")
    heard_ms_ago: int | None = None
    state: str | None = None
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
    last_event: LastEvent | None


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
