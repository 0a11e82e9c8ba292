"""Bodies of the small endpoints, as pydantic models: they are not on the hot path, and document themselves."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ModelState(BaseModel):
    """What an OpenAI client ignores and an operator wants: the state of a model's nodes."""

    state: str
    nodes: int
    ready_nodes: int
    slots: int
    busy: int
    service_ms: float | None = Field(
        None,
        description="How long a request holds a slot, smoothed, over all its nodes; null while nobody has measured",
    )
    sentence: str | None = None
    context_length: int | None = None
    endpoints: list[str] = Field([], description="What its present nodes serve; empty while there is none")
    description: str | None = None
    aliases: list[str] = Field([], description="Its other names")
    alias_of: str | None = Field(None, description="The model that answers, where this id is an alias of it")


class Model(BaseModel):
    """A model in OpenAI's form, with our state beside it."""

    id: str
    object: str = "model"
    created: int = Field(description="Unix time since when the model is known here")
    owned_by: str = "workernode"
    workernode: ModelState


class ModelList(BaseModel):
    """All models."""

    object: str = "list"
    data: list[Model]


class Ready(BaseModel):
    """Whether requests can be taken, and if not, why."""

    ready: bool
    why: str | None = None
    models: int
    nodes: int
