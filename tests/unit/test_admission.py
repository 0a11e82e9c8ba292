"""Who may wait for a node and who is told to come again; where a request stands; what gateways know of one another."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gateway.http.answering import keep_alive, queue_headers
from gateway.models.register import Models
from gateway.queue.admission import COLD_RETRY_MS, Admission, Standing
from gateway.queue.backlog import GATEWAYS_MAX, Backlog, Counts
from wire.backlog import BACKLOG_LOST_S, BacklogReport, ModelBacklog
from wire.errors import Overloaded
from wire.presence import PRESENCE_LOST_S, Presence

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.queue.admission import Place
    from wire.presence import NodeState

NOW_MS = 1_000_000_000
PATIENT_MS = 600_000


def heartbeat(
    node: str = "node-a",
    *,
    state: NodeState = "ready",
    slots: int = 1,
    service_ms: int | None = 1000,
    busy: int = 0,
    until_ms: int | None = None,
    sent_ms: int = 1,
) -> Presence:
    return Presence(
        node=node,
        name=node,
        model="m",
        type="remote",
        version="1",
        state=state,
        slots=slots,
        busy=busy,
        service_ms=service_ms,
        until_ms=until_ms,
        sent_ms=sent_ms,
        started_ms=0,
    )


class Reception:
    """A gateway as far as admission goes."""

    def __init__(self, *nodes: Presence, name: str = "gateway-a", cold_requests_max: int = 3) -> None:
        self.models = Models(["m"], 0.0, 0)
        self.backlog = Backlog(name)
        self.admission = Admission(self.models, self.backlog, cold_requests_max=cold_requests_max)
        for node in nodes:
            self.hear(node)

    def hear(self, presence: Presence) -> None:
        self.models.heard(presence, 0.0, 0)

    def enter(self, left_ms: int = PATIENT_MS, now_ms: int = NOW_MS) -> Place:
        return self.admission.admit("m", left_ms, now_ms)

    def run(self, count: int) -> list[Place]:
        """Requests that nodes have begun."""
        places = [self.enter() for _ in range(count)]
        for place in places:
            place.held(True)
        return places

    def refused_ms(self, left_ms: int, now_ms: int = NOW_MS) -> int:
        """After what time to come again; it must be refused."""
        with pytest.raises(Overloaded) as refused:
            self.enter(left_ms, now_ms)
        assert refused.value.retry_after_ms is not None
        return refused.value.retry_after_ms

    def tell(self, other: Reception, sent_ms: int = 1, at: float = 0.0) -> bool:
        """Report to another gateway."""
        return other.backlog.heard(self.backlog.report(sent_ms), other.models, at)


def test_with_a_free_slot_nobody_waits_and_then_each_waits_for_the_ones_ahead() -> None:
    reception = Reception(heartbeat(slots=2))
    standings = [reception.enter().admitted for _ in range(5)]
    assert standings == [Standing(0, 0), Standing(0, 0), Standing(1, 500), Standing(2, 1000), Standing(3, 1500)]


def test_a_request_is_refused_that_would_not_be_answered_before_its_deadline() -> None:
    reception = Reception(heartbeat())
    for _ in range(3):
        reception.enter(left_ms=3000)
    # Its turn would come in three seconds, too late for an answer that takes one.
    assert reception.refused_ms(left_ms=3000) == 1000
    assert reception.enter(left_ms=4000).admitted == Standing(3, 3000)


def test_who_could_never_be_answered_in_time_is_let_in_once_a_slot_is_free() -> None:
    reception = Reception(heartbeat(service_ms=9000))
    (running,) = reception.run(1)
    assert reception.refused_ms(left_ms=500) == 9000
    running.leave()
    assert reception.enter(left_ms=500).admitted == Standing(0, 0)


def test_a_refused_request_leaves_no_trace() -> None:
    reception = Reception(heartbeat())
    reception.run(1)
    reception.refused_ms(left_ms=1)
    assert reception.backlog.of("m") == Counts(waiting=0, running=1, taken=1)


def test_nodes_of_different_speed_add_up() -> None:
    reception = Reception(heartbeat("node-a", slots=2, service_ms=1000), heartbeat("node-b", slots=2, service_ms=4000))
    reception.run(4)
    assert reception.enter().admitted == Standing(1, 400)


def test_a_node_that_has_served_nothing_yet_is_taken_to_be_like_the_others() -> None:
    reception = Reception(heartbeat("node-a", slots=2), heartbeat("node-b", slots=2, service_ms=None))
    reception.run(4)
    assert reception.enter().admitted == Standing(1, 250)


@pytest.mark.parametrize("state", ["starting", "draining", "paused", "unreachable", "misconfigured", "rate_limited"])
def test_a_node_that_takes_no_requests_is_no_capacity(state: NodeState) -> None:
    reception = Reception(heartbeat("node-a"), heartbeat("node-b", state=state, slots=100))
    reception.run(1)
    assert reception.enter().admitted == Standing(1, 1000)


def test_a_rate_limited_node_counts_from_when_it_tries_again() -> None:
    limited = heartbeat("node-b", state="rate_limited", slots=9, until_ms=NOW_MS + 5000)
    reception = Reception(heartbeat("node-a"), limited)
    reception.run(1)
    standings = [reception.enter().admitted for _ in range(6)]
    # Five are begun one by one until then; at once with it the next nine.
    assert [each.eta_ms for each in standings] == [1000, 2000, 3000, 4000, 5000, 5000]
    assert reception.enter(now_ms=NOW_MS + 5000).admitted == Standing(0, 0)


def test_a_model_whose_only_node_is_rate_limited_waits_for_it() -> None:
    reception = Reception(heartbeat(state="rate_limited", until_ms=NOW_MS + 5000))
    assert reception.enter().admitted == Standing(1, 5000)
    assert reception.refused_ms(left_ms=5999) == 1001


def test_requests_at_work_on_a_node_that_leaves_stand_in_nobodys_way() -> None:
    reception = Reception(heartbeat("node-a", slots=5))
    reception.run(5)
    reception.hear(heartbeat("node-a", slots=5, busy=5, state="draining", sent_ms=2))
    reception.hear(heartbeat("node-b"))
    assert reception.enter().admitted == Standing(0, 0)
    assert reception.enter().admitted == Standing(1, 1000)


def test_those_that_wait_are_ahead_though_nodes_have_said_of_more_at_work_than_there_are() -> None:
    reception = Reception(heartbeat("node-a"), heartbeat("node-b", slots=5, busy=5, state="draining"))
    standings = [reception.enter().admitted for _ in range(3)]
    assert standings == [Standing(0, 0), Standing(1, 1000), Standing(2, 2000)]


def test_a_cold_model_admits_a_count_of_requests() -> None:
    reception = Reception(cold_requests_max=3)
    assert [reception.enter(left_ms=1).admitted for _ in range(3)] == [Standing(n, None) for n in (1, 2, 3)]
    assert reception.refused_ms(left_ms=PATIENT_MS) == COLD_RETRY_MS


def test_a_node_that_was_never_measured_admits_that_count_beyond_its_slots() -> None:
    reception = Reception(heartbeat(slots=2, service_ms=None), cold_requests_max=3)
    assert [reception.enter().admitted.position for _ in range(5)] == [0, 0, 1, 2, 3]
    assert reception.refused_ms(left_ms=PATIENT_MS) == COLD_RETRY_MS
    reception.hear(heartbeat(slots=2, service_ms=500, sent_ms=2))
    assert reception.enter().admitted == Standing(4, 1000)


def test_a_model_whose_nodes_are_gone_is_cold_again() -> None:
    reception = Reception(heartbeat())
    reception.models.forget_the_silent(PRESENCE_LOST_S + 1)
    assert reception.enter().admitted == Standing(1, None)


def test_a_request_moves_up_as_those_ahead_are_taken_or_give_up() -> None:
    reception = Reception(heartbeat())
    (running,) = reception.run(1)
    first, second, mine, behind = (reception.enter() for _ in range(4))
    assert mine.standing(NOW_MS) == Standing(3, 3000)
    running.leave()
    first.held(True)
    assert mine.standing(NOW_MS) == Standing(2, 2000)
    behind.leave()
    second.leave()
    # Nobody can tell who hung up, but that only one is left.
    assert mine.standing(NOW_MS) == Standing(1, 1000)
    mine.held(True)
    assert mine.standing(NOW_MS) is None


def test_a_request_that_is_handed_back_waits_again_and_is_taken_only_once() -> None:
    reception = Reception(heartbeat())
    place = reception.enter()
    for held in (True, False, True, True, False):
        place.held(held)
    assert reception.backlog.of("m") == Counts(waiting=1, running=0, taken=1)
    place.leave()
    place.leave()
    place.held(True)
    assert reception.backlog.of("m") == Counts(taken=1)


def test_two_gateways_stand_in_one_queue() -> None:
    here, there = Reception(heartbeat()), Reception(heartbeat(), name="gateway-b")
    (running,) = here.run(1)
    first, second = here.enter(), here.enter()
    here.tell(there)
    mine = there.enter()
    assert mine.admitted == Standing(3, 3000)
    assert there.refused_ms(left_ms=4999) > 0
    running.leave()
    first.held(True)
    here.tell(there, sent_ms=2)
    assert there.backlog.of("m") == Counts(waiting=2, running=1, taken=1)
    assert mine.standing(NOW_MS) == Standing(2, 2000)
    first.leave()
    second.held(True)
    here.tell(there, sent_ms=3)
    assert mine.standing(NOW_MS) == Standing(1, 1000)
    there.tell(here)
    assert here.enter().admitted == Standing(2, 2000)


def test_a_model_that_a_report_does_not_name_has_nothing_open_there() -> None:
    here, there = Reception(), Reception(name="gateway-b")
    place = here.enter()
    place.held(True)
    assert here.tell(there), "it was not known before"
    place.leave()
    assert not here.tell(there, sent_ms=2)
    assert there.backlog.of("m") == Counts()
    assert here.backlog.report(3).models == (), "what has not changed and is not open is not said"
    here.tell(there, sent_ms=3)
    here.run(2)
    here.tell(there, sent_ms=4)
    assert there.backlog.of("m") == Counts(running=2, taken=2)


def test_what_a_silent_gateway_said_expires() -> None:
    here, there = Reception(), Reception(name="gateway-b")
    here.enter()
    here.tell(there, at=10.0)
    there.backlog.forget_the_silent(there.models, 10.0 + BACKLOG_LOST_S)
    assert there.backlog.of("m").waiting == there.backlog.waiting_elsewhere == 1
    there.backlog.forget_the_silent(there.models, 10.1 + BACKLOG_LOST_S)
    assert there.backlog.of("m").waiting == there.backlog.waiting_elsewhere == 0
    assert here.tell(there, sent_ms=2, at=30.0), "it is news again"
    assert there.backlog.of("m").waiting == 1


@pytest.mark.parametrize(
    "report",
    [
        BacklogReport(gateway="gateway-b", sent_ms=9, models=(ModelBacklog(model="m", waiting=5),)),
        BacklogReport(gateway="gateway-a", sent_ms=1, models=(ModelBacklog(model="m", waiting=5),)),
        BacklogReport(gateway="gateway-c", sent_ms=9, models=(ModelBacklog(model="unknown", waiting=5),)),
    ],
    ids=["under our own name", "older than the last", "of a model that is not known"],
)
def test_a_report_that_cannot_be_is_not_counted(report: BacklogReport) -> None:
    here, there = Reception(), Reception(name="gateway-b")
    here.enter()
    here.tell(there, sent_ms=2)
    there.backlog.heard(report, there.models, 0.0)
    assert there.backlog.of("m") == Counts(waiting=1)
    assert there.backlog.of("unknown") == Counts()


def test_forged_reports_fill_no_memory_and_expire() -> None:
    reception = Reception(heartbeat())
    most = 2**53 - 1
    forged = BacklogReport(
        gateway="gateway-x", sent_ms=most, models=(ModelBacklog(model="m", waiting=most, running=most, taken=most),)
    )
    for number in range(2 * GATEWAYS_MAX):
        reception.backlog.heard(
            msgspec.structs.replace(forged, gateway=f"gateway-{number}"), reception.models, at=float(number == 0)
        )
    assert reception.backlog.of("m").waiting == GATEWAYS_MAX * most
    assert reception.refused_ms(left_ms=PATIENT_MS) > 0
    reception.backlog.forget_the_silent(reception.models, 2 + BACKLOG_LOST_S)
    assert reception.enter().admitted == Standing(0, 0)


def test_a_model_that_is_forgotten_is_not_counted_any_more() -> None:
    here, there = Reception(), Reception(name="gateway-b")
    place = here.enter()
    here.tell(there)
    there.backlog.forget_the_silent((), 0.0)
    assert there.backlog.waiting_elsewhere == 0
    here.backlog.forget_the_silent((), 0.0)
    assert here.backlog.waiting == 1, "its own requests are open all the same"
    place.leave()
    here.backlog.forget_the_silent((), 0.0)
    assert here.backlog.of("m") == Counts(), "and then nothing is kept of them"


def test_every_change_is_told_of() -> None:
    reception, changes = Reception(), list[None]()
    reception.backlog.on_change = lambda: changes.append(None)
    place = reception.enter()
    place.held(True)
    place.held(True)
    place.leave()
    assert len(changes) == 3


def test_a_request_costs_the_same_steps_whatever_waits_and_however_many_nodes_there_are() -> None:
    def steps(nodes: int, waiting: int) -> int:
        reception = Reception(*(heartbeat(f"node-{number}", slots=2) for number in range(nodes)))
        places = [reception.enter() for _ in range(nodes * 2 + waiting)]

        def life() -> None:
            reception.models.admit("m", "chat/completions", NOW_MS)
            reception.models.continues("m")
            reception.hear(heartbeat("node-0", slots=2, service_ms=1001, sent_ms=2))
            place = reception.enter()
            place.standing(NOW_MS)
            place.held(True)
            place.leave()
            reception.refused_ms(left_ms=1)

        assert len(places) == reception.backlog.of("m").open
        return _lines(life)

    assert steps(nodes=1000, waiting=100_000) == steps(nodes=2, waiting=10)


def _lines(work: Callable[[], None]) -> int:
    """How many lines of Python run."""
    count = 0

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_a_stream_says_where_its_request_stands_in_comments_and_an_answer_in_headers() -> None:
    assert keep_alive(Standing(3, 1200)) == b": queue position=3 eta_ms=1200\n\n"
    assert keep_alive(Standing(3, None)) == b": queue position=3\n\n"
    assert keep_alive(None) == b": ping\n\n"
    assert queue_headers(Standing(3, 1200)) == [(b"x-queue-position", b"3"), (b"x-queue-eta-ms", b"1200")]
    assert queue_headers(Standing(3, None)) == [(b"x-queue-position", b"3")]
