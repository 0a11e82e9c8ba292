"""What a gateway reports of its own requests, and what it makes of the others' reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.queue.backlog import Backlog, Counts
from wire.backlog import BACKLOG_LOST_S, BacklogReport, ModelBacklog

if TYPE_CHECKING:
    import pytest


def test_a_report_says_since_when_the_oldest_waits_and_how_many_were_let_in() -> None:
    backlog = Backlog("gateway-a")
    for since_ms in (30, 10, 20, 10):
        backlog.move("m", None, "waiting", since_ms=since_ms)
        backlog.accept("m")

    def told() -> ModelBacklog:
        (model,) = backlog.report(1).models
        return model

    assert told() == ModelBacklog(model="m", waiting=4, accepted=4, oldest_ms=10)
    backlog.move("m", "waiting", "running", taken=True, since_ms=10)
    backlog.move("m", "waiting", None, since_ms=10)
    assert told() == ModelBacklog(model="m", waiting=2, running=1, taken=1, accepted=4, oldest_ms=20)
    backlog.move("m", "running", "waiting", since_ms=10)  # its node died
    assert told().oldest_ms == 10
    for since_ms in (10, 20, 30):
        backlog.move("m", "waiting", None, since_ms=since_ms)
    assert told() == ModelBacklog(model="m", taken=1, accepted=4)


def test_that_a_request_was_let_in_is_reported_although_it_waited_before() -> None:
    backlog, changes = Backlog("gateway-a"), [0]
    backlog.move("m", None, "waiting", since_ms=1)
    backlog.report(1)
    backlog.on_change = lambda: changes.append(1)
    backlog.accept("m")
    assert sum(changes) == 1
    assert backlog.report(2).models == (ModelBacklog(model="m", waiting=1, accepted=1, oldest_ms=1),)


def test_figures_that_only_grow_are_kept_as_long_as_their_model_is_known() -> None:
    backlog = Backlog("gateway-a")
    for model in ("known", "gone", "gone and busy"):
        backlog.move(model, None, "running", taken=True)
    for model in ("known", "gone"):
        backlog.move(model, "running", None)
    backlog.forget_the_silent({"known"}, 0.0)
    assert [backlog.of(model).taken for model in ("known", "gone", "gone and busy")] == [1, 0, 1]


def hear(backlog: Backlog, sent_ms: int, waiting: int, taken: int = 0, *, name: str = "gateway-b") -> bool:
    """A report of another gateway on the model ``m``."""
    models = (ModelBacklog(model="m", waiting=waiting, taken=taken),)
    return backlog.heard(BacklogReport(gateway=name, sent_ms=sent_ms, models=models), {"m"}, 0.0)


def test_a_model_that_is_known_again_counts_from_nothing() -> None:
    backlog = Backlog("gateway-a")
    hear(backlog, 1, waiting=3)
    backlog.forget_the_silent(set(), 0.0)
    hear(backlog, 2, waiting=1)
    assert backlog.of("m") == Counts(waiting=1)


def test_how_many_were_taken_elsewhere_never_goes_back() -> None:
    backlog = Backlog("gateway-a")
    for sent_ms, taken in enumerate((5, 7, 1, 2)):  # the other gateway forgets a model, too
        hear(backlog, sent_ms, waiting=0, taken=taken)
    assert backlog.of("m").taken == 3, "two, then one: what was taken before the first report is nobody's turn here"


def test_gateways_that_are_listened_to_are_heard_though_no_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.queue.backlog.GATEWAYS_MAX", 1)
    backlog = Backlog("gateway-a")
    assert hear(backlog, 1, waiting=1)
    assert not hear(backlog, 1, waiting=10, name="gateway-c")
    assert not hear(backlog, 2, waiting=2)
    assert backlog.of("m") == Counts(waiting=2)


def test_the_later_of_two_reports_of_one_millisecond_counts() -> None:
    backlog = Backlog("gateway-a")
    hear(backlog, 1, waiting=3)
    hear(backlog, 1, waiting=0)
    assert backlog.of("m") == Counts()


def test_what_a_gateway_has_that_fell_silent_does_not_count() -> None:
    backlog = Backlog("gateway-a")
    hear(backlog, 1, waiting=3, taken=5)
    hear(backlog, 2, waiting=2, taken=6)
    backlog.forget_the_silent({"m"}, BACKLOG_LOST_S)
    assert backlog.of("m") == Counts(waiting=2, taken=1)
    backlog.forget_the_silent({"m"}, BACKLOG_LOST_S + 0.1)
    assert backlog.of("m") == Counts(taken=1)
