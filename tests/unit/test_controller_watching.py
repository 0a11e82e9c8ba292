"""What is heard of objects, and what is said of a watch that fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import controller.watching
from controller.cluster import ClusterError
from controller.kinds import AIMODEL, DEPLOYMENT, SCALED_OBJECT, Kind
from controller.watching import watch
from tests.waiting import pauses, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Watched:
    """An API server whose list is the same each time, and whose watches are the next of a script, and then hang."""

    def __init__(self, *watches: ClusterError | list[str]) -> None:
        self.watches = list(watches)
        self.lists = 0

    async def listing(self, *_: object) -> tuple[list[Any], str]:
        self.lists += 1
        return [{"metadata": {"name": "listed"}}], "1"

    async def watch(self, *_: object) -> AsyncIterator[tuple[str, Any]]:
        if not self.watches:
            await asyncio.Event().wait()
        happens = self.watches.pop(0)
        if isinstance(happens, ClusterError):
            raise happens
        for name in happens:
            yield "MODIFIED", {"metadata": {"name": name}}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_S", "AGAIN_S", "ABSENT_AGAIN_S"):
        monkeypatch.setattr(controller.watching, name, 0.001)


async def heard(cluster: Watched, kind: Kind = DEPLOYMENT) -> list[str]:
    """All that is heard until the last watch hangs."""
    names: list[str] = []
    wanted = len(cluster.watches) + 1
    hear = lambda found: names.append(found["metadata"]["name"])  # noqa: E731
    watching = asyncio.create_task(watch(cluster, kind, "ns", None, hear))  # type: ignore[arg-type]
    await until(lambda: cluster.lists == wanted)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return names


async def test_who_may_list_and_not_watch_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    await heard(Watched(*[ClusterError(403, "You may not watch.")] * 3))
    assert caplog.text.count("deployments cannot be watched: You may not watch.") == 1


async def test_each_new_trouble_is_told_and_the_same_again_after_a_watch_that_worked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away, refused = ClusterError(0, "It is away."), ClusterError(403, "You may not watch.")
    await heard(Watched(away, refused, refused, ["one"], refused))
    assert caplog.text.count("It is away.") == 1
    assert caplog.text.count("You may not watch.") == 2


async def test_after_a_watch_that_is_too_old_all_is_listed_again_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await heard(Watched(["one"], ClusterError(410, "Too old."), ["two"])) == [
        *("listed", "one"),
        "listed",
        *("listed", "two"),
        "listed",
    ]
    assert not caplog.records


@pytest.mark.parametrize(("kind", "told"), [(AIMODEL, 1), (SCALED_OBJECT, 0)])
async def test_a_kind_that_is_missing_is_told_unless_a_cluster_may_lack_it(
    caplog: pytest.LogCaptureFixture, kind: Kind, told: int
) -> None:
    assert await heard(Watched(*[ClusterError(404, "There is none.")] * 2), kind) == ["listed"] * 3
    assert caplog.text.count("cannot be watched: There is none.") == told


@pytest.mark.parametrize(
    ("happens", "pause_s"),
    [
        ([], 1.0),
        (ClusterError(410, "Too old."), 1.0),
        (ClusterError(0, "It is away."), 2.0),
        (ClusterError(404, "There is none."), 3.0),
    ],
)
async def test_an_api_server_that_ends_every_watch_at_once_is_not_asked_all_the_time(
    monkeypatch: pytest.MonkeyPatch, happens: ClusterError | list[str], pause_s: float
) -> None:
    for name, seconds in (("PAUSE_S", 1.0), ("AGAIN_S", 2.0), ("ABSENT_AGAIN_S", 3.0)):
        monkeypatch.setattr(controller.watching, name, seconds)
    paused = pauses(monkeypatch, at_most=3)
    cluster = Watched(*[happens] * 4)
    with pytest.raises(asyncio.CancelledError):
        await watch(cluster, SCALED_OBJECT, "ns", None, lambda _: None)  # type: ignore[arg-type]
    assert (paused, cluster.lists) == ([pause_s] * 3, 3)
