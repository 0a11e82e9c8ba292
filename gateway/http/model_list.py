"""Models as ``GET /v1/models`` shows them: what their nodes say, what was declared, and the aliases beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.http.schemas import Model, ModelState

if TYPE_CHECKING:
    from gateway.models.names import ModelNames
    from gateway.models.register import Models, ModelView

OWNER = "workernode"


def shown(asked: str, models: Models, names: ModelNames) -> Model:
    """One model, by its name or an alias. Raises :class:`wire.errors.ModelNotFound`."""
    name = names.aliases.get(asked, asked)
    view, declared = models.view(name), names.declared.get(name)
    return Model(
        id=asked,
        created=view.created_s,
        owned_by=(declared and declared.owned_by) or OWNER,
        workernode=ModelState(
            state=view.state,
            nodes=view.nodes,
            ready_nodes=view.ready,
            slots=view.slots,
            busy=view.busy,
            service_ms=None if view.service_ms is None else round(view.service_ms, 1),
            sentence=view.sentence,
            context_length=context_length(view, names),
            endpoints=list(view.endpoints),
            description=declared and declared.description,
            aliases=names.aliases_of(name) if asked == name else [],
            alias_of=None if asked == name else name,
        ),
    )


def context_length(view: ModelView, names: ModelNames) -> int | None:
    """What its nodes and its declaration both allow, in tokens; None if neither says."""
    declared = names.declared.get(view.name)
    lengths = (view.context_length, declared.context_length if declared else None)
    return min((each for each in lengths if each), default=None)


def listed(models: Models, names: ModelNames) -> list[Model]:
    """Every model and every alias of one, by name. What an alias hides is not there for clients."""
    known = {view.name for view in models.views()}
    ids = (known - names.aliases.keys()) | {alias for alias, name in names.aliases.items() if name in known}
    return [shown(each, models, names) for each in sorted(ids)]
