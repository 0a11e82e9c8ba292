"""What a timeline makes of the events of one request."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from management.pages.timeline import SCALE, timeline_of
from tests.billing import NOON_MS, billed, event, request_data, request_id_of
from wire.event import Times

ID = request_id_of(1)


def rows(*events: bytes) -> list[dict[str, Any]]:
    return [{"position": number, "stored_ms": 0, "raw": raw.decode()} for number, raw in enumerate(events, 1)]


def times(taken: int, *, first: int | None = None, last: int | None = None, settled: int) -> Times:
    def at(ms: int | None) -> int | None:
        return None if ms is None else NOON_MS + ms

    return Times(
        received_ms=NOON_MS, published_ms=NOON_MS + 10, taken_ms=at(taken), first_token_ms=at(first),
        last_token_ms=at(last), settled_ms=at(settled),
    )  # fmt: skip


def lost(attempt: int, at: Times) -> bytes:
    data = request_data(1, attempt_id=f"att_{attempt}", attempt=attempt, status="superseded", times=at)
    return event(f"cost-att_{attempt}", "request.cost", data, subject=ID)


def stages_of(*events: bytes) -> dict[str, int | None]:
    return {stage.name: stage.after_ms for stage in timeline_of(rows(*events)).stages}


def test_every_attempt_has_a_lane_and_the_charge_its_stages() -> None:
    end = billed(1, attempt_id="att_2", attempt=2, times=times(600, first=700, last=990, settled=1000))
    timeline = timeline_of(rows(lost(1, times(100, settled=500)), end))
    assert [lane.title for lane in timeline.lanes] == ["Gateway", "Attempt 1", "Attempt 2"]
    assert [lane.is_charged for lane in timeline.lanes] == [False, False, True]
    assert [(stage.name, stage.after_ms) for stage in timeline.stages] == [
        ("Accepted", 0), ("Published", 10), ("Taken", 100), ("First token", 700), ("Finished", 1000), ("Charged", 0),
    ]  # fmt: skip
    answer = timeline.lanes[2].spans
    assert [(span.name, span.lasted_ms) for span in answer] == [
        ("Until the first token", 100), ("Generating", 290), ("Settling", 10),
    ]  # fmt: skip
    assert all(
        span.start >= 0 and span.start + span.width <= SCALE + 0.01 for lane in timeline.lanes for span in lane.spans
    )


def test_lanes_stand_in_the_order_of_their_beginnings_and_tell_what_took_how_long() -> None:
    end = billed(1, attempt_id="att_3", attempt=3, times=times(600, first=700, settled=1000))
    timeline = timeline_of(rows(end, lost(2, times(300, first=400, settled=500)), lost(1, times(100, settled=250))))
    spans = {lane.title: [(span.name, span.kind, span.lasted_ms) for span in lane.spans] for lane in timeline.lanes}
    assert list(spans.items()) == [
        ("Gateway", [("Publishing", "publish", 10), ("Waiting in the queue", "queue", 90)]),
        ("Attempt 1", [("Without an answer", "first", 150)]),
        ("Attempt 2", [("Until the first token", "first", 100), ("Generating", "generate", 100)]),
        ("Attempt 3", [("Until the first token", "first", 100), ("Generating", "generate", 300)]),
    ]
    assert [(span.start, span.width) for span in timeline.lanes[3].spans] == [(600, 100), (700, 300)]


def test_an_attempt_that_is_told_twice_is_shown_once_as_it_was_charged() -> None:
    end = billed(1, attempt_id="att_1", attempt=1, times=times(100, settled=500))
    timeline = timeline_of(rows(lost(1, times(100, settled=500)), end, lost(1, times(100, settled=500))))
    assert [lane.is_charged for lane in timeline.lanes if lane.data] == [True]


def test_a_request_that_no_node_began_has_no_attempt() -> None:
    data = request_data(1, status="expired", node=None, times=Times(received_ms=NOON_MS, published_ms=NOON_MS + 3))
    timeline = timeline_of(rows(event("expired-1", "request.expired", data)))
    assert [lane.title for lane in timeline.lanes] == ["Gateway"]
    assert [stage.name for stage in timeline.stages if stage.time_ms is None] == [
        "Taken", "First token", "Finished", "Charged",
    ]  # fmt: skip


def test_clocks_that_run_backwards_draw_nothing_outside() -> None:
    odd = Times(received_ms=NOON_MS, published_ms=NOON_MS - 5000, taken_ms=NOON_MS - 9000, settled_ms=NOON_MS + 1)
    timeline = timeline_of(rows(billed(1, attempt_id="att_1", times=odd)))
    for lane in timeline.lanes:
        for span in lane.spans:
            assert 0 <= span.start <= SCALE - span.width


def test_an_event_of_another_version_is_told_and_draws_nothing() -> None:
    import msgspec

    timeline = timeline_of(rows(event("odd-1", "request.cost", msgspec.Raw(b'{"request_id": 7}'))))
    assert timeline.lanes == []
    assert len(timeline.told) == 1


@pytest.mark.parametrize("kind", ["billed", "cost", "failed", "cancelled", "expired", "dead", "abandoned"])
def test_every_word_about_an_attempt_has_its_lane(kind: str) -> None:
    data = request_data(1, attempt_id="att_1", attempt=1, times=times(100, settled=500))
    timeline = timeline_of(rows(event("e-1", f"request.{kind}", data, subject=ID)))
    assert [lane.title for lane in timeline.lanes] == ["Gateway", "Attempt 1"]
    assert (timeline.model, timeline.endpoint) == ("small", "chat/completions")


def test_a_charge_that_another_version_wrote_hides_nothing_of_what_is_known() -> None:
    charge = event("charge-1", "request.billed", msgspec.Raw(b'{"of": "another version"}'), subject=ID)
    timeline = timeline_of(rows(lost(1, times(100, settled=500)), charge))
    assert [lane.title for lane in timeline.lanes] == ["Gateway", "Attempt 1"]
    assert [(stage.name, stage.time_ms is not None) for stage in timeline.stages] == [
        ("Accepted", True), ("Published", True), ("Taken", True), ("First token", False), ("Finished", True),
        ("Charged", True),
    ]  # fmt: skip
    assert [one["kind"] for one in timeline.told] == ["request.cost", "request.billed"]


def test_the_first_token_and_the_end_are_those_of_the_attempt_that_is_charged() -> None:
    end = billed(1, attempt_id="att_2", attempt=2, times=times(600, first=700, last=990, settled=1000))
    after = stages_of(lost(1, times(100, first=300, settled=1500)), end)
    assert (after["First token"], after["Finished"]) == (700, 1000)
    # Where none is, those of whichever there was.
    other = lost(2, times(600, first=700, last=990, settled=1000))
    after = stages_of(lost(1, times(100, first=300, settled=500)), other)
    assert (after["First token"], after["Finished"]) == (300, 1000)
    unsettled = lost(1, Times(received_ms=NOON_MS, taken_ms=NOON_MS + 100, last_token_ms=NOON_MS + 400))
    assert stages_of(unsettled)["Finished"] == 400


def test_what_took_no_time_at_all_has_a_timeline_too() -> None:
    at_once = Times(received_ms=NOON_MS, published_ms=NOON_MS, taken_ms=NOON_MS, settled_ms=NOON_MS)
    timeline = timeline_of(rows(lost(1, at_once)))
    assert [span.lasted_ms for lane in timeline.lanes for span in lane.spans] == [0, 0, 0]
    assert timeline.lasted_ms == 1


def test_no_span_goes_back_in_time_or_beyond_the_end() -> None:
    behind = Times(received_ms=NOON_MS, published_ms=NOON_MS + 10, taken_ms=NOON_MS + 5, settled_ms=NOON_MS + 20)
    shown = {span.name for lane in timeline_of(rows(lost(1, behind))).lanes for span in lane.spans}
    assert shown == {"Publishing", "Without an answer"}, "the node's clock is behind the gateway's"
    end = billed(1, attempt_id="att_1", attempt=1, times=times(100, first=200, last=99_999, settled=100_000))
    settling = timeline_of(rows(end)).lanes[-1].spans[-1]
    assert (settling.name, settling.lasted_ms) == ("Settling", 1)
    assert settling.width > 0
    assert settling.start + settling.width == SCALE, "it is seen, though it was short"
