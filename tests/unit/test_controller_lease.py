"""Who leads, decided on a Lease that several write."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any

import pytest

from controller.cluster import ClusterError
from controller.lease import Lease


class OneLease:
    """An API server that has one Lease, and refuses what is written over a newer version."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.stale: dict[str, Any] | None = None
        """What the next look finds instead."""

    async def get(self, *_: object) -> dict[str, Any] | None:
        stale, self.stale = self.stale, None
        return stale or copy.deepcopy(self.lease)

    async def create(self, _: object, __: str, lease: dict[str, Any]) -> None:
        if self.lease is not None:
            raise ClusterError(409, "already exists")
        self._keep(lease)

    async def replace(self, _: object, __: str, ___: str, lease: dict[str, Any]) -> None:
        if lease["metadata"]["resourceVersion"] != self.version:
            raise ClusterError(409, "the object has been modified")
        self._keep(lease)

    def _keep(self, lease: dict[str, Any]) -> None:
        self.version += 1
        self.lease = lease | {"metadata": {**lease["metadata"], "resourceVersion": self.version}}

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> OneLease:
    return OneLease()


def member(server: OneLease, me: str) -> tuple[Lease, Clock]:
    clock = Clock()
    return Lease(server, "ns", "lease", me, 15, clock), clock  # type: ignore[arg-type]


async def test_whoever_comes_first_leads_and_renews(server: OneLease) -> None:
    (one, clock), (two, _) = member(server, "one"), member(server, "two")
    assert await one.try_once()
    assert not await two.try_once()
    assert server.lease is not None
    taken = server.lease["spec"]
    clock.now += 10
    assert await one.try_once()
    assert server.holder == "one"
    renewed = server.lease["spec"]
    assert (renewed["leaseTransitions"], renewed["acquireTime"]) == (0, taken["acquireTime"])
    assert renewed["renewTime"] > taken["renewTime"]


async def test_another_one_leads_when_the_lease_has_not_changed_for_its_length_by_its_own_clock(
    server: OneLease,
) -> None:
    (one, _), (two, clock) = member(server, "one"), member(server, "two")
    await one.try_once()
    assert not await two.try_once()  # seen for the first time, however old it says it is
    clock.now += 14
    assert not await two.try_once()
    await one.try_once()  # renewed after all
    clock.now += 14
    assert not await two.try_once()
    clock.now += 16
    assert await two.try_once()
    assert not await one.try_once()
    assert server.holder == "two"
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


async def test_a_lease_is_as_long_as_its_holder_says() -> None:
    """Controllers whose LEASE_S is being changed run side by side for a while."""
    server, clock = OneLease(), Clock()
    long = Lease(server, "ns", "lease", "long", 60, Clock())  # type: ignore[arg-type]
    short = Lease(server, "ns", "lease", "short", 15, clock)  # type: ignore[arg-type]
    await long.try_once()
    assert not await short.try_once()
    clock.now += 59
    assert not await short.try_once()
    clock.now += 2
    assert await short.try_once()


async def test_of_two_who_write_at_once_one_has_it(server: OneLease) -> None:
    (one, _), (two, clock) = member(server, "one"), member(server, "two")
    await one.try_once()
    await two.try_once()
    clock.now += 16
    seen = await server.get()
    await one.try_once()  # between the other one's look and its taking
    server.stale = seen
    assert not await two.try_once()
    assert server.holder == "one"


async def test_a_leader_that_ends_gives_the_lease_back(server: OneLease) -> None:
    (one, _), (two, _) = member(server, "one"), member(server, "two")
    await one.take()
    await one.give_back()
    assert await two.try_once()
    assert server.holder == "two"


class Away(OneLease):
    """One that can be reached for as long as ``answers`` says, and then refuses or says nothing."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.answers = 1
        self.hangs = hangs

    async def get(self, *_: object) -> dict[str, Any] | None:
        self.answers -= 1
        if self.answers < 0:
            if self.hangs:
                await asyncio.Event().wait()
            raise ClusterError(0, "The API server cannot be reached.")
        return await super().get()


LEASE_S = 3


@pytest.mark.parametrize("hangs", [False, True])
async def test_who_cannot_renew_leads_no_more_before_another_one_may(*, hangs: bool) -> None:
    server = Away(hangs=hangs)
    leader = Lease(server, "ns", "lease", "one", LEASE_S, time.monotonic)  # type: ignore[arg-type]
    began = time.monotonic()
    await leader.take()
    assert leader.held
    async with asyncio.timeout(LEASE_S):
        await leader.keep()
    assert not leader.held
    assert time.monotonic() - began >= LEASE_S / 2, "one refusal is no reason yet"


async def test_who_waits_for_a_lease_says_once_why_it_cannot_ask(caplog: pytest.LogCaptureFixture) -> None:
    refusals = [ClusterError(403, "You may not.")] * 3

    class Refusing(OneLease):
        async def get(self, *args: object) -> dict[str, Any] | None:
            if refusals:
                raise refusals.pop()
            return await super().get(*args)

    waiting = Lease(Refusing(), "ns", "lease", "one", 0, time.monotonic)  # type: ignore[arg-type]
    await waiting.take()
    assert caplog.text.count("The Lease cannot be asked for: You may not.") == 1


class Slow(OneLease):
    """One that takes the whole length of the Lease to answer its first look."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    async def get(self, *args: object) -> dict[str, Any] | None:
        if self.version == 0:
            self._clock.now += LEASE_S
        await asyncio.sleep(0)  # as every answer that comes over a network
        return await super().get(*args)


async def test_a_lease_holds_from_when_it_was_asked_for_and_not_from_the_answer() -> None:
    clock = Clock()
    leader = Lease(Slow(clock), "ns", "lease", "one", LEASE_S, clock)  # type: ignore[arg-type]
    await leader.take()
    async with asyncio.timeout(LEASE_S):
        await leader.keep()
    assert not leader.held


async def test_who_finds_another_holder_leads_no_more_and_gives_nothing_back(server: OneLease) -> None:
    leader = Lease(server, "ns", "lease", "one", LEASE_S, time.monotonic)  # type: ignore[arg-type]
    await leader.take()
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "two"
    async with asyncio.timeout(LEASE_S):
        await leader.keep()
    assert not leader.held
    await leader.give_back()
    assert server.holder == "two"
