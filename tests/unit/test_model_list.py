"""What ``GET /v1/models`` shows beside the state of nodes: names, aliases, and what was declared."""

from __future__ import annotations

import msgspec
import pytest

from gateway.http.model_list import context_length, listed, shown
from gateway.models.file import DeclaredModel
from gateway.models.names import ModelNames
from gateway.models.register import Models
from tests.unit.test_models import heartbeat


def register(*, nodes_length: int | None = None) -> Models:
    models = Models(["hidden", "masked", "other"], 0.0, 0)
    models.heard(msgspec.structs.replace(heartbeat(), context_length=nodes_length), 0.0, 0)
    return models


def names(**declared: object) -> ModelNames:
    own = msgspec.convert({"name": "m", **declared}, DeclaredModel)
    return ModelNames({"m": own}, {"alias": "m", "hidden": "m", "masked": "unknown"}, None)


def test_aliases_are_listed_beside_models_and_hide_those_of_their_name() -> None:
    found = {each.id: each.workernode for each in listed(register(), names())}
    assert list(found) == ["alias", "hidden", "m", "other"]
    assert {name: state.alias_of for name, state in found.items() if state.alias_of} == {"alias": "m", "hidden": "m"}
    assert {name: state.aliases for name, state in found.items() if state.aliases} == {"m": ["alias", "hidden"]}


def test_what_is_declared_is_shown_and_who_owns_it() -> None:
    known = names(owned_by="mistralai", description="For everything.")
    for asked in ("m", "alias"):
        model = shown(asked, register(), known)
        assert (model.id, model.owned_by, model.workernode.description) == (asked, "mistralai", "For everything.")
    other = shown("other", register(), known)
    assert (other.owned_by, other.workernode.description) == ("workernode", None)


def test_what_a_models_nodes_say_is_shown() -> None:
    ready = msgspec.structs.replace(heartbeat("node-2"), slots=3, busy=2, service_ms=1234, context_length=512)
    models = Models([], 0.0, 0)
    models.heard(ready, 0.0, 7)
    models.heard(heartbeat(state="misconfigured", sentence="Its key is wrong."), 0.0, 8)
    found = shown("m", models, names())
    state = {"state": "ready", "nodes": 2, "ready_nodes": 1, "slots": 3, "busy": 2, "service_ms": 1234.0}
    more = {"context_length": 512, "endpoints": sorted(ready.endpoints), "aliases": ["alias", "hidden"]}
    assert found.created == 7
    assert found.workernode.model_dump(exclude_none=True) == state | more
    models.heard(msgspec.structs.replace(ready, state="stopped"), 1.0, 9)
    found = shown("m", models, names())
    assert (found.workernode.state, found.workernode.sentence) == ("misconfigured", "Its key is wrong.")


@pytest.mark.parametrize(
    ("nodes_length", "declared", "length"),
    [(100, 200, 100), (200, 100, 100), (None, 100, 100), (100, None, 100), (None, None, None)],
)
def test_a_context_is_as_long_as_nodes_and_declaration_both_allow(
    nodes_length: int | None, declared: int | None, length: int | None
) -> None:
    models = register(nodes_length=nodes_length)
    assert context_length(models.view("m"), names(context_length=declared)) == length
