"""What the REST API may be asked. A parameter that is not known is refused: it would silently filter nothing."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LOST_PLUS = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)$")
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


def _with_its_plus(value: object) -> object:
    # In an address a + is a blank, which few think of who write 2026-03-01T12:00:00+02:00 there.
    return _LOST_PLUS.sub(r"\1+\2", value) if isinstance(value, str) else value


Time = Annotated[AwareDatetime, BeforeValidator(_with_its_plus), BeforeValidator(_written_out)]
Day = Annotated[datetime.date, BeforeValidator(_written_out)]
Text = Annotated[str, Field(max_length=512), AfterValidator(_without_nul)]
GroupCursor = Annotated[str, Field(max_length=4096), AfterValidator(_without_nul)]
"""Longer than a text: it holds one for each group."""
EndStatus = Literal["answered", "failed", "cancelled", "expired", "dead", "abandoned"]
"""How a request ended."""
By = Literal["model", "key", "node", "day", "tag"]
CostBy = Literal["model", "key", "node", "day", "provider"]


_BY = (
    "What to group by; repeat it to combine. By `key` with `node` or `tag`: of 31 days at most, `since` and `until` "
    "set; by `key` and `tag` with `model` or `node`: of 7."
)


class Question(BaseModel):
    """What every list may be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuestion(Question):
    """What has no parameters."""


class QuarantineQuestion(Question):
    """How many at most."""

    limit: int = Field(100, ge=1, le=1000)


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

    by: list[By] = Field([], max_length=5, description=f"{_BY} Without it: one total.")
    model: Text | None = None
    key_id: Text | None = None
    node: Text | None = None
    tag: Text | None = Field(None, description="`name=value`, or `name` for all values of a tag.")
    since: Day | None = Field(None, description="The first day, in the ledger's time zone.")
    until: Day | None = Field(None, description="The last day, in the ledger's time zone.")
    limit: int = Field(1000, ge=1, le=1000, description="Rows per page.")
    cursor: GroupCursor | None = Field(None, description=CURSOR)


class CostsQuestion(Question):
    """Filters of ``/api/v1/costs``."""

    by: list[CostBy] = Field([], max_length=5, description=_BY)
    model: Text | None = None
    key_id: Text | None = None
    node: Text | None = None
    provider: Text | None = None
    since: Day | None = Field(None, description="The first day, in the ledger's time zone.")
    until: Day | None = Field(None, description="The last day, in the ledger's time zone.")
    limit: int = Field(1000, ge=1, le=1000, description="Rows per page.")
    cursor: GroupCursor | None = Field(None, description=CURSOR)


class ExportQuestion(Question):
    """What of an export is asked for."""

    format: Literal["jsonl", "csv"] = Field("jsonl", description="JSON lines, or CSV with a line of names.")
    after: int = Field(0, ge=0, le=2**63 - 1, description="The last position that is known already.")
    limit: int = Field(10_000, ge=1, le=100_000, description="Lines at most; go on after the last one's position.")


class EventExportQuestion(Question):
    """What of the export of events is asked for."""

    after: int = Field(0, ge=0, le=2**63 - 1, description="The last position that is known already.")
    limit: int = Field(10_000, ge=1, le=100_000, description="Lines at most; go on after the last one's position.")
