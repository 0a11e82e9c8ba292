"""What a gateway tells of the requests that it took in, and of those that it refused, in few events."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.metrics import GatewayMetrics
from gateway.requests import acceptances, refusals
from gateway.requests.acceptances import Acceptances
from gateway.requests.refusals import Refusals
from wire.event import ACCEPTED_MAX
from wire.request import Request


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, Any]] = []
        self.prompts: list[str] = []

    def gateway_event(self, kind: str, event_id: str, data: Any) -> None:
        self.events.append((kind, event_id, data))

    def prompt(self, request: Request) -> None:
        self.prompts.append(request.request_id)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its one number is the time in milliseconds."""
    now = [100]
    for module in (acceptances, refusals):
        monkeypatch.setattr(module, "now_ms", lambda: now[0])
    return now


def request(number: int) -> Request:
    return Request(
        request_id=f"req_{number}",
        model="model",
        endpoint="chat/completions",
        body=b"{}",
        gateway="gateway-1",
        received_ms=1,
        deadline_ms=2,
    )


def test_no_event_holds_more_requests_than_its_readers_take(now: list[int]) -> None:
    recorder: Any = Recorder()
    taken = Acceptances("gateway-1", recorder, with_prompts=False)
    for number in range(2 * ACCEPTED_MAX + 1):
        taken.add(request(number))
    taken.tell()
    kinds, ids, told = zip(*recorder.events, strict=True)
    assert set(kinds) == {"gateway.accepted"}
    assert len(set(ids)) == 3, "an event whose id was there before does not count"
    assert [len(each.requests) for each in told] == [ACCEPTED_MAX, ACCEPTED_MAX, 1]
    assert [name for each in told for name in each.requests] == [f"req_{n}" for n in range(2 * ACCEPTED_MAX + 1)]
    assert recorder.prompts == []


def test_each_event_begins_where_the_one_before_ended_and_where_nothing_came_there_is_none(now: list[int]) -> None:
    recorder: Any = Recorder()
    taken = Acceptances("gateway-1", recorder, with_prompts=True)
    for now[0], number in ((200, 1), (300, None), (400, 2)):
        if number is not None:
            taken.add(request(number))
        taken.tell()
    assert [(each.since_ms, each.until_ms) for _, _, each in recorder.events] == [(100, 200), (300, 400)]
    assert recorder.prompts == ["req_1", "req_2"]


def test_refusals_are_told_once_with_the_time_in_which_they_were(now: list[int]) -> None:
    recorder: Any = Recorder()
    metrics = GatewayMetrics()
    refused = Refusals("gateway-1", metrics, recorder)
    for now[0], statuses in ((200, [404, 429, 404]), (300, []), (400, [503])):
        for status in statuses:
            metrics.refuse(status, "overloaded")
        refused.tell()
    assert [(each.since_ms, each.until_ms, each.refused) for _, _, each in recorder.events] == [
        (100, 200, {"404": 2, "429": 1}),
        (300, 400, {"503": 1}),
    ]
    assert {kind for kind, _, _ in recorder.events} == {"gateway.refusals"}
    assert len({event_id for _, event_id, _ in recorder.events}) == 2
