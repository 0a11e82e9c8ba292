"""What a gateway reports of its own requests."""

from __future__ import annotations

from gateway.backlog import Backlog
from wire.backlog import ModelBacklog


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
