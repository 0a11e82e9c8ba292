"""AIModels as declared models: what is read of them, and whose name counts."""

from __future__ import annotations

import asyncio
import typing
from typing import TYPE_CHECKING, Any

import pytest

from gateway.models.aimodels import PAUSE_S, AIModels, created, read
from gateway.models.file import DeclaredModel
from gateway.models.names import ModelNames
from gateway.models.register import Models
from process.cluster import ClusterError
from tests.waiting import pauses, until
from wire.errors import ModelNotFound, ModelUnavailable
from wire.presence import Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gateway.models.aimodels import AIModel


def resource(name: str, model: str, created_at: str = "2026-01-02T03:04:05Z", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "creationTimestamp": created_at}
    return {"metadata": metadata, "spec": {"type": "static", "model": model, **spec}, "status": {"nodes": []}}


def test_all_that_is_declared_is_read() -> None:
    found = read(
        resource("m", "org/m", aliases=["a"], ownedBy="org", contextLength=4096, description="The one.", slots=3)
    )
    assert found.object_name == "m"
    assert found.created_s == 1767323045
    assert found.declared == DeclaredModel(
        name="org/m", aliases=("a",), owned_by="org", context_length=4096, description="The one."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"metadata": {"name": "m"}, "spec": {"model": "m"}},
        resource("m", ""),
        resource("m", "a\nb"),
        resource("m", "m", aliases=["a\nb"]),
        resource("m", "m", contextLength=0),
        resource("m", "m", contextLength="many"),
        resource("m", "m") | {"spec": None},
        resource("m", "m", "yesterday"),
    ],
)
def test_what_can_be_no_model_is_told_in_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(wrong)


def test_the_oldest_of_several_objects_says_since_when() -> None:
    models = [read(resource("a", "m", "2026-01-01T00:00:00Z")), read(resource("b", "m", "2026-02-01T00:00:00Z"))]
    assert created(models) == {"m": models[0].created_s}


def test_the_settings_come_first_and_then_the_order() -> None:
    own = DeclaredModel(name="own", owned_by="us")
    names = ModelNames({"own": own}, {"short": "own"}, None)
    clashes = names.declare(
        [
            DeclaredModel(name="own", owned_by="them"),
            DeclaredModel(name="old", aliases=("alias", "own", "short")),
            DeclaredModel(name="new", aliases=("alias", "old", "fresh")),
        ]
    )
    assert names.declared["own"] is own
    assert names.aliases == {"short": "own", "alias": "old", "fresh": "new"}
    assert len(clashes) == 5
    assert names.resolve("alias") == "old"
    assert names.declare([]) == []
    assert (names.declared, names.aliases) == ({"own": own}, {"short": "own"})


def test_two_objects_of_one_model_that_say_the_same_are_no_clash() -> None:
    """As docs/kubernetes.md asks for where one object's nodes are too few."""
    names = ModelNames({}, {}, None)
    first, second = DeclaredModel(name="m", owned_by="us", aliases=("a",)), DeclaredModel(name="m", owned_by="us")
    assert names.declare([first, second]) == []
    assert names.aliases == {"a": "m"}
    assert names.declare([first, DeclaredModel(name="m", owned_by="them")]) == [
        "'m' is declared twice, and differently: what was said first counts."
    ]


def presence(state: typing.Literal["ready", "draining", "stopped"], sent_ms: int) -> Presence:
    base: dict[str, Any] = {"node": "node-a", "name": "a", "model": "m", "type": "static", "version": "1"}
    return Presence(**base, state=state, slots=1, sent_ms=sent_ms, started_ms=1)


def test_a_model_that_is_taken_back_goes_with_its_last_node() -> None:
    models = Models(["own"], 0.0, 1)
    assert models.declare({"m": 77, "own": 88}, 1.0) == ["m"]
    assert [(view.name, view.created_s) for view in models.views()] == [("m", 77), ("own", 1)]
    assert models.forget_the_silent(1e9) == []
    models.heard(presence("ready", 1), 2.0, 2)
    assert models.declare({}, 3.0) == []
    assert models.forget_the_silent(4.0) == []
    models.forget_the_silent(20.0)
    assert "m" not in models
    assert "own" in models


def test_a_model_that_is_taken_back_takes_nothing_while_its_nodes_leave() -> None:
    models = Models([], 0.0, 1)
    models.declare({"m": 77}, 0.0)
    models.heard(presence("ready", 1), 1.0, 2)
    models.declare({}, 2.0)
    models.heard(presence("ready", 2), 3.0, 2)
    models.admit("m", "chat/completions", 0)  # somebody has nodes of it all the same
    models.heard(presence("draining", 3), 4.0, 2)
    with pytest.raises(ModelNotFound):
        models.admit("m", "chat/completions", 0)
    assert models.forget_the_silent(5.0) == []
    models.heard(presence("stopped", 4), 6.0, 2)
    assert models.forget_the_silent(7.0) == ["m"]
    models.declare({"m": 78}, 8.0)
    models.heard(presence("draining", 5), 9.0, 2)
    models.admit("m", "chat/completions", 0)


def test_before_the_first_list_no_model_is_said_not_to_exist() -> None:
    models = Models([], 0.0, 1)
    models.is_complete = False
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        models.admit("m", "chat/completions", 0)
    models.declare({}, 1.0)
    with pytest.raises(ModelNotFound):
        models.admit("m", "chat/completions", 0)


class Scripted:
    """An API server whose lists and watches are given."""

    def __init__(self) -> None:
        self.lists: list[list[dict[str, Any]] | ClusterError] = []
        self.events: asyncio.Queue[dict[str, Any] | ClusterError | None] = asyncio.Queue()
        self.asked = 0
        self.refusal: ClusterError | None = None
        """What every watch ends with before it begins."""

    async def ask(self, method: str, path: str) -> Any:
        self.asked += 1
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, ClusterError):
            raise found
        return {"items": found, "metadata": {"resourceVersion": str(self.asked)}}

    async def watch(self, path: str, version: str, opened: Callable[[], None]) -> AsyncIterator[dict[str, Any]]:
        if self.refusal is not None:
            raise self.refusal
        opened()
        while (event := await self.events.get()) is not None:
            if isinstance(event, ClusterError):
                raise event
            yield event

    async def aclose(self) -> None: ...


async def test_what_a_watch_tells_and_the_next_list_corrects(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("process.cluster.RETRY_S_MIN", 0.01)
    cluster, told = Scripted(), list[list[str]]()

    def hear(models: list[AIModel]) -> None:
        told.append([model.declared.name for model in models])

    cluster.lists = [[resource("a", "a")]]
    aimodels = AIModels(typing.cast("Any", cluster), "models", hear)
    running = asyncio.create_task(aimodels.run())
    await asyncio.wait_for(aimodels.tried.wait(), 5)
    assert told == [["a"]]

    await cluster.events.put({"type": "ADDED", "object": resource("b", "b")})
    await until(lambda: told[-1] == ["a", "b"])
    await cluster.events.put({"type": "MODIFIED", "object": resource("b", "b") | {"status": {"nodes": [1]}}})
    await cluster.events.put({"type": "MODIFIED", "object": resource("b", "\x00")})
    await until(lambda: told[-1] == ["a"])
    assert len(told) == 3  # a status is no change
    assert 'action="aimodel_unusable"' in caplog.text

    # The API server goes away: what is known stays, and it is told of once.
    cluster.lists = [ClusterError(0, "It is away."), ClusterError(0, "It is away."), [resource("c", "c")]]
    caplog.clear()
    await cluster.events.put(ClusterError(0, "It is away."))
    await until(lambda: told[-1] == ["c"])
    assert len(told) == 4
    assert caplog.text.count('action="aimodels_unread"') == 1
    await cluster.events.put({"type": "DELETED", "object": resource("c", "c")})
    await until(lambda: told[-1] == [])

    # Too old a version is no trouble to tell.
    caplog.clear()
    cluster.lists = [[resource("d", "d")]]
    await cluster.events.put(ClusterError(410, "Too old."))
    await until(lambda: told[-1] == ["d"])
    assert 'action="aimodels_unread"' not in caplog.text
    running.cancel()


async def test_a_model_that_is_being_deleted_is_declared_no_more() -> None:
    cluster, told = Scripted(), list[list[str]]()
    leaving = resource("a", "a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    cluster.lists = [[resource("a", "a"), resource("b", "b")]]
    aimodels = AIModels(
        typing.cast("Any", cluster), "models", lambda models: told.append([each.object_name for each in models])
    )
    running = asyncio.create_task(aimodels.run())
    await until(lambda: told == [["a", "b"]])
    await cluster.events.put({"type": "MODIFIED", "object": leaving})
    await until(lambda: told[-1] == ["b"])
    running.cancel()


async def test_an_api_server_that_ends_every_watch_at_once_is_not_asked_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Scripted()
    cluster.lists = [[resource("a", "a")]]
    for _ in range(50):
        await cluster.events.put(None)
    paused = pauses(monkeypatch, at_most=3)
    with pytest.raises(asyncio.CancelledError):
        await AIModels(typing.cast("Any", cluster), "models", lambda _: None).run()
    assert paused == [PAUSE_S] * 3
    assert cluster.asked == 3


async def test_an_api_server_that_lists_and_lets_nobody_watch_is_asked_less_and_less_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Scripted()
    cluster.lists = [[resource("a", "a")]]
    cluster.refusal = ClusterError(403, "You may not watch.")
    paused = pauses(monkeypatch, at_most=5)
    with pytest.raises(asyncio.CancelledError):
        await AIModels(typing.cast("Any", cluster), "models", lambda _: None).run()
    assert paused[-1] > 4 * PAUSE_S
    assert caplog.text.count("You may not watch.") == 1
    assert "can be read again" not in caplog.text
