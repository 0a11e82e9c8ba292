"""What the REST API answers about usage and money: the models behind its OpenAPI document."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

Amount = Annotated[str, Field(description="A decimal in a string: a JSON number would be a float.")]


class Money(BaseModel):
    """An amount in one currency."""

    currency: str
    amount: Amount


class Usage(BaseModel):
    """Sums of charges. The fields that were not grouped by are absent; an empty key or node stands for none."""

    day: datetime.date | None = None
    model: str | None = None
    key_id: str | None = None
    node: str | None = None
    tag: str | None = Field(None, description="A charge is counted under each of its tags.")
    requests: int
    estimated_requests: int = Field(description="Those whose tokens the node counted itself.")
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    body_bytes: int
    answer_bytes: int
    amounts: list[Money] = Field(description="What customers pay, for the requests that have a price.")
    unpriced_requests: int = Field(description="Those without a price: they are in no amount.")


class Usages(BaseModel):
    """A page of sums, in the order of what they are grouped by."""

    data: list[Usage]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Cost(BaseModel):
    """What attempts cost the operator. The fields that were not grouped by are absent."""

    day: datetime.date | None = None
    model: str | None = None
    key_id: str | None = None
    node: str | None = None
    provider: str | None = None
    wasted: bool = Field(description="Whether these are attempts that no customer is charged for.")
    currency: str | None = Field(description="Null for attempts without a price.")
    attempts: int
    tokens: int = Field(description="Of prompts and answers together.")
    amount: Amount | None = Field(description="Null for attempts without a price.")


class Costs(BaseModel):
    """A page of sums, in the order of what they are grouped by."""

    data: list[Cost]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


class Price(BaseModel):
    """A price: that of tokens is for a million of them. Null where there is none."""

    model: str
    provider: str | None = Field(description="Null for whatever provider answers.")
    currency: str
    valid_from_ms: int
    input: Amount | None
    cached_input: Amount | None = Field(description="Null: as input.")
    output: Amount | None
    reasoning: Amount | None = Field(description="Null: as output.")
    per_request: Amount
    per_image: Amount


class Prices(BaseModel):
    """The prices that hold for what is stored now."""

    version: str
    prices: list[Price] = Field(description="What customers pay.")
    costs: list[Price] = Field(description="What attempts cost the operator.")


class Budget(BaseModel):
    """A budget, and how it stands in its present period."""

    scope: Literal["key", "tag", "model"]
    subject: str
    period: Literal["day", "month", "total"]
    currency: str
    limit: Amount
    spent: Amount
    reserved: Amount = Field(description="What open requests may come to cost at most.")
    left: Amount = Field(description="What new requests may reserve.")
    warn_percent: int
    state: Literal["ok", "warning", "exhausted"]


class Budgets(BaseModel):
    """All budgets."""

    data: list[Budget]
