"""What the REST API answers of the fleet, of actions, errors and alerts. Times are Unix milliseconds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from management.ledger.failures import Scope as FailureScope
from management.reading.fleet_questions import Action as ActionName
from store.orders import Scope, Verb

NEXT = "Where the next page begins; null on the last one."


class OrderShown(BaseModel):
    """What an operator wants of a node, or of all nodes of a model."""

    order: Verb
    scope: Scope
    subject: str
    by: str = Field(description="The name of the key.")
    at_ms: int
    reason: str | None


class RunningShown(BaseModel):
    """A request at work."""

    request_id: str
    taken_ms: int = Field(description="Since when, by the node's clock.")


class LastError(BaseModel):
    """What went wrong last at a node, with what it means."""

    time_ms: int
    code: str
    sentence: str
    remedy: str
    request_id: str | None
    message: str | None = Field(description="The node's own words, where it told of itself.")


class Quantiles(BaseModel):
    """Half of them, and 19 of 20, were at most so long."""

    p50_ms: int
    p95_ms: int


class ModelShown(BaseModel):
    """One model: its nodes, its requests, and how fast they are answered."""

    model: str
    nodes: int = Field(description="That are there.")
    ready: int
    states: dict[str, int] = Field(description="How many nodes are in which state.")
    slots: int
    busy: int
    sentence: str | None = Field(description="Of a node that is not ready, if none is.")
    waiting: int
    running: int
    oldest_ms: int | None = Field(description="Since when the oldest of those that wait is open.")
    in_per_s: float = Field(description="Requests let in, over the last minute.")
    out_per_s: float = Field(description="Requests ended, over the last minute.")
    first_token: Quantiles | None = Field(description="From the client's request to the first part of the answer.")
    total: Quantiles | None = Field(description="From the client's request to the end of the answer.")
    samples: int = Field(description="Of how many charges: the latest 200 of the last hour.")
    dead_letters: int = Field(description="Among the latest 1,000 of all models.")
    order: OrderShown | None


class ModelsShown(BaseModel):
    """All models that have nodes, requests, dead letters or orders."""

    data: list[ModelShown]


class DeadLetterShown(BaseModel):
    """A request that brought down its nodes, and waits for a person."""

    request_id: str
    model: str
    key_id: str | None
    died_ms: int
    message: str | None


class DeadLettersShown(BaseModel):
    """A page of them, the latest first."""

    data: list[DeadLetterShown]
    next_cursor: str | None = Field(description=NEXT)


class ActionShown(BaseModel):
    """What an operator did, and what came of it."""

    action_id: int
    at_ms: int
    by: str = Field(description="The name of the key.")
    action: ActionName
    scope: Literal["node", "model", "request"]
    subject: str
    reason: str | None
    state: Literal["running", "done", "failed", "unknown"] = Field(
        description="`unknown`: whoever did it ended before it was done."
    )
    outcome: str | None
    done_ms: int | None


class ActionsShown(BaseModel):
    """A page of actions, the latest first."""

    data: list[ActionShown]
    next_cursor: str | None = Field(description=NEXT)


class Affected(BaseModel):
    """A model or a key, and how often."""

    name: str
    count: int


class ErrorShown(BaseModel):
    """What went wrong, as often as it did."""

    fingerprint: str
    scope: FailureScope
    code: str
    provider: str | None
    sentence: str
    remedy: str
    irreversible: bool = Field(description="It lasts until someone acts.")
    count: int
    first_ms: int
    last_ms: int
    models: list[Affected] = Field(description="The most affected, 20 at most.")
    keys: list[Affected] = Field(description="The most affected, 20 at most.")
    last_request_id: str | None
    last_message: str | None = Field(description="A node's own words.")


class ErrorsShown(BaseModel):
    """A page of errors, the latest first."""

    data: list[ErrorShown]
    next_cursor: str | None = Field(description=NEXT)


class AlertShown(BaseModel):
    """A trouble that lasts until someone acts."""

    alert_id: int
    code: str
    model: str
    provider: str | None
    sentence: str
    remedy: str
    nodes: int = Field(description="That had it when it was noticed.")
    opened_ms: int
    cleared_ms: int | None
    told: str = Field(description="`yes`, `not yet`, `failed`, or `nobody` without a webhook.")


class AlertsShown(BaseModel):
    """A page of alerts, the latest first."""

    data: list[AlertShown]
    next_cursor: str | None = Field(description=NEXT)
