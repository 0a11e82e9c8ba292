"""What the REST API may be asked of the fleet, of actions, errors and alerts; and what it may be told to do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from management.ledger.failures import Scope as FailureScope  # noqa: TC001 (pydantic reads annotations when a model is made)
from management.reading.questions import CURSOR, Day, Question, Text
from store.orders import Scope, Verb

Action = Literal["pause", "resume", "drain", "cancel", "replay", "discard"]


_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
Reason = Annotated[str, Field(max_length=256, pattern=_ONE_LINE)]
Subject = Annotated[str, Field(min_length=1, max_length=256, pattern=_ONE_LINE)]
RequestId = Annotated[str, Field(min_length=4, max_length=96, pattern=_ONE_LINE)]


class NodesQuestion(Question):
    """Filters of ``/api/v1/nodes``."""

    model: Text | None = None
    gone: int = Field(100, ge=0, le=1000, description="How many of those that are gone, at most.")


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Reason | None = Field(None, description="For whoever reads what was done.")


class FleetAction(_Asked):
    """An order to nodes."""

    action: Verb
    scope: Scope
    subject: Subject = Field(description="A node's incarnation, or the name of one that is there; or a model's name.")


class CancelAction(_Asked):
    """End a request."""

    action: Literal["cancel"]
    request_id: RequestId


class ReplayAction(_Asked):
    """Let nodes try a dead letter again."""

    action: Literal["replay"]
    request_id: RequestId
    timeout_s: float = Field(600.0, ge=1, le=3_600, description="The deadline of this try.")


class DiscardAction(_Asked):
    """Remove a dead letter for good."""

    action: Literal["discard"]
    request_id: RequestId


AnyAction = Annotated[FleetAction | CancelAction | ReplayAction | DiscardAction, Field(discriminator="action")]


class DeadLettersQuestion(Question):
    """Filters of ``/api/v1/dead-letters``."""

    model: Text | None = None
    limit: int = Field(100, ge=1, le=1000, description="Letters per page.")
    cursor: Text | None = Field(None, description=CURSOR)


class ActionsQuestion(Question):
    """Filters of ``/api/v1/actions``."""

    by: Text | None = Field(None, description="The name of a key.")
    action: Action | None = None
    subject: Text | None = None
    limit: int = Field(100, ge=1, le=1000, description="Actions per page.")
    cursor: Text | None = Field(None, description=CURSOR)


class ErrorsQuestion(Question):
    """Filters of ``/api/v1/errors``."""

    since: Day | None = Field(None, description="The first day, in the ledger's time zone; six days ago without it.")
    until: Day | None = Field(None, description="The last day, in the ledger's time zone.")
    scope: FailureScope | None = None
    model: Text | None = None
    key_id: Text | None = None
    limit: int = Field(50, ge=1, le=200, description="Errors per page.")
    cursor: Text | None = Field(None, description=CURSOR)


class AlertsQuestion(Question):
    """Filters of ``/api/v1/alerts``."""

    open: bool | None = Field(None, description="Only those that are open, or only those that are not.")
    limit: int = Field(100, ge=1, le=1000, description="Alerts per page.")
    cursor: Text | None = Field(None, description=CURSOR)
