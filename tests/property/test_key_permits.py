"""Places and held tokens, under every order of coming, leaving and settling."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from gateway.http.visit import Visit
from gateway.keys.key import Key
from gateway.keys.permits import Permits
from gateway.keys.quota import Quota, estimate
from gateway.requests.decisions import Break, Complete
from gateway.requests.exchange import Exchange
from process.lifecycle import Tasks
from process.logging import Log
from process.timers import Timers
from tests.waiting import until
from wire.errors import FleetError, RateLimited
from wire.request import Request
from wire.usage import Usage

if TYPE_CHECKING:
    from gateway.keys.permits import Permit

CONCURRENT_MAX = 3
KEYS = [Key(name=name, concurrent_max=CONCURRENT_MAX) for name in ("a", "b")]


class Door(RuleBasedStateMachine):
    """Whatever is done twice or in an odd order, nobody's place is lost or given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = Permits()
        self.taken: list[Permit] = []

    @rule(key=st.sampled_from(KEYS), tokens=st.integers(0, 100))
    def come(self, key: Key, tokens: int) -> None:
        inside = sum(each.is_in for each in self.taken if each.key is key)
        try:
            self.taken.append(self.permits.take(key, tokens))
        except RateLimited:
            assert inside == CONCURRENT_MAX
        else:
            assert inside < CONCURRENT_MAX

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.permits.leave(data.draw(st.sampled_from(self.taken)))

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.permits.release(data.draw(st.sampled_from(self.taken)))

    @invariant()
    def sums_are_those_of_the_permits(self) -> None:
        assert len(self.permits) == sum(each.is_in for each in self.taken)
        for key in KEYS:
            held = [each.tokens for each in self.taken if each.key is key and each.is_held]
            assert self.permits.held(key.name) == sum(held)

    def teardown(self) -> None:
        for each in self.taken:
            self.permits.leave(each)
            self.permits.release(each)
        assert repr(self.permits) == "<Permits inside={} held={}>"


TestDoor = Door.TestCase
ENDS = st.sampled_from(["answered", "failed", "hung up waiting", "hung up", "never owned", "cancelled at the door"])


def request(body: bytes = b"{}", max_tokens: int | None = None, n: int | None = None) -> Request:
    return Request(
        request_id="req_1",
        model="m",
        endpoint="chat/completions",
        body=body,
        gateway="g",
        received_ms=1,
        deadline_ms=2,
        max_tokens=max_tokens,
        n=n,
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(ENDS, st.integers(1, 2000)), max_size=12))
def test_every_end_gives_back_the_place_and_what_was_held(ends: list[tuple[str, int]]) -> None:
    """``ends``: how each of many concurrent requests ends, and the tokens that it asks for."""

    async def play() -> None:
        tasks = Tasks(Log("gateway"))
        quota = Quota("async+memory://", tasks, CollectorRegistry())
        key = Key(name="k", concurrent_max=2, tokens_per_min=5000, requests_per_min=100)
        visits: list[tuple[str, Visit]] = []
        refused: list[RateLimited] = []
        for end, tokens in ends:
            visit = Visit(key, quota)
            try:
                await visit.admit(request(max_tokens=tokens))
            except RateLimited as error:
                visit.end()
                refused.append(error)
                if visits:
                    visits.pop(0)[1].end()
                continue
            if end == "cancelled at the door":
                visit.end()
                continue
            if end != "never owned":
                visit.exchange = Exchange(Timers(cast("asyncio.AbstractEventLoop", None)))
                visit.exchange.begun = end == "hung up"
            if end == "answered":
                assert visit.exchange is not None
                visit.exchange.finish(Complete("stop", Usage(prompt_tokens=3, completion_tokens=tokens)))
            elif end == "failed":
                assert visit.exchange is not None
                visit.exchange.finish(Break(FleetError().body()))
            visits.append((end, visit))
        for _, visit in visits:
            visit.end()
            visit.end()
        await until(lambda: not len(tasks), every_s=0)
        assert all((error.retry_after_ms or 0) > 0 for error in refused)
        assert repr(quota) == "<Quota <Permits inside={} held={}>>"
        left = {name: int(value) for name, value in await quota.headers(key) if b"remaining" in name}
        assert 0 <= left[b"x-ratelimit-remaining-tokens"] <= 5000

    asyncio.run(play())


@given(
    st.integers(0, 5000), st.none() | st.integers(1, 2**31 - 1), st.none() | st.integers(1, 128), st.integers(1, 10**9)
)
def test_an_estimate_fits_into_its_limit_and_covers_what_is_known(
    body_bytes: int, max_tokens: int | None, n: int | None, limit: int
) -> None:
    held = estimate(request(b"x" * body_bytes, max_tokens, n), limit)
    assert held <= limit
    known = -(-body_bytes // 4) + (max_tokens or 0) * (n or 1)
    assert held >= min(limit, known)
