"""A client's visit: which models it sees, what its requests are counted under, and the tokens that it has used."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.http.visit import Visit
from gateway.keys.key import Key
from gateway.requests.decisions import Break, Complete
from gateway.requests.exchange import Exchange
from process.timers import Timers
from wire.errors import FleetError, Forbidden
from wire.usage import Usage

HELD = 500
USAGE = Usage(prompt_tokens=3, completion_tokens=4)


class Quota:
    """Lets everybody in, and writes down what was used."""

    def __init__(self) -> None:
        self.used: list[int] = []

    async def admit(self, key: Key, request: object) -> Any:
        class Permit:
            tokens = HELD

        return Permit()

    def end(self, permit: object, tokens: int) -> None:
        self.used.append(tokens)

    async def headers(self, key: Key) -> list[tuple[bytes, bytes]]:
        return [(b"x-ratelimit-limit-tokens", b"1")]


@pytest.mark.parametrize(
    ("models", "seen"),
    [(None, {"alias", "behind", "other"}), ({"alias"}, {"alias"}), ({"behind"}, {"alias", "behind"}), ({}, set())],
)
def test_a_key_sees_a_model_by_its_name_or_by_an_alias(models: set[str] | None, seen: set[str]) -> None:
    behind = {"alias": "behind", "behind": "behind", "other": "other"}
    visit = Visit(Key(name="k", models=None if models is None else frozenset(models)))
    assert {asked for asked, model in behind.items() if visit.sees(asked, model)} == seen
    for asked, model in behind.items():
        assert Visit().sees(asked, model)
        if asked in seen:
            visit.check_model(asked, model)
        else:
            with pytest.raises(Forbidden) as refused:
                visit.check_model(asked, model)
            assert refused.value.param == "model"


def test_a_default_model_that_a_key_may_use_need_not_be_named() -> None:
    Visit(Key(name="k", models=frozenset({"m"}))).check_model(None, "m")


def test_a_keys_own_tags_stand_before_those_that_a_request_asks_for() -> None:
    visit = Visit(Key(name="k", tags=(("team", "red"),)))
    assert visit.tags({"team": "blue", "job": "1"}) == {"team": "red", "job": "1"}
    assert Visit().tags({"team": "blue"}) == {"team": "blue"}
    assert (visit.key_id, Visit().key_id) == ("k", None)


@pytest.mark.parametrize(
    ("begun", "end", "used"),
    [
        (None, None, 0),
        (False, None, 0),
        (True, None, HELD),
        (True, Complete("stop", USAGE), USAGE.total_tokens),
        (False, Complete("stop", USAGE), USAGE.total_tokens),
        (True, Break(FleetError().body()), 0),
    ],
    ids=["never_owned", "left_waiting", "left_in_the_middle", "answered", "answered_at_once", "failed"],
)
async def test_a_visit_has_used_what_its_client_is_charged_and_once(
    begun: bool | None, end: Complete | Break | None, used: int
) -> None:
    quota: Any = Quota()
    visit = Visit(Key(name="k", tokens_per_min=1000), quota)
    await visit.admit(cast("Any", None))
    if begun is not None:
        visit.exchange = Exchange(Timers(asyncio.get_running_loop()))
        visit.exchange.begun = begun
        if end is not None:
            visit.exchange.finish(end)
    for _ in range(2):
        visit.end()
        assert quota.used == [used]
    assert await visit.headers() == await quota.headers(visit.key)


async def test_an_answer_that_is_finished_for_nobody_is_over_at_its_end_and_not_when_its_client_leaves() -> None:
    quota: Any = Quota()
    visit = Visit(Key(name="k", concurrent_max=1), quota)
    await visit.admit(cast("Any", None))
    visit.exchange = Exchange(Timers(asyncio.get_running_loop()))
    visit.exchange.discard()
    visit.end()
    assert quota.used == []
    for _ in range(2):
        visit.exchange.finish(Complete("stop", USAGE))
        assert quota.used == [USAGE.total_tokens]


async def test_an_answer_that_has_ended_before_its_client_leaves_is_over_at_once() -> None:
    quota: Any = Quota()
    visit = Visit(Key(name="k", concurrent_max=1), quota)
    await visit.admit(cast("Any", None))
    visit.exchange = Exchange(Timers(asyncio.get_running_loop()))
    visit.exchange.discard()
    visit.exchange.finish(Complete("stop", USAGE))
    visit.end()
    assert quota.used == [USAGE.total_tokens]


@pytest.mark.parametrize("key", [None, Key(name="k")], ids=["without_a_key", "without_limits"])
async def test_who_has_no_limits_is_not_counted(key: Key | None) -> None:
    quota: Any = Quota()
    visit = Visit(key, quota)
    await visit.admit(cast("Any", None))
    visit.end()
    assert quota.used == []
    assert await visit.headers() == []
