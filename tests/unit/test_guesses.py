"""Wrong keys of management: who shows many of them has to wait, alone, and is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from management import guesses
from management.guesses import MINUTE_S, WRONG_KEYS_PER_MIN, Guesses, TooManyWrongKeys, place_of
from management.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable


class Counted:
    """Guesses on a clock of the test's own, and what is counted of them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.metrics = Metrics(CollectorRegistry())
        self.guesses = Guesses(self.metrics.wrong_keys, lambda: self.now)

    def shows(self, place: str, times: int = 1) -> None:
        """As often a wrong key. Raises :class:`TooManyWrongKeys`."""
        for _ in range(times):
            self.guesses.check(place)
            self.guesses.add(place)

    def count(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value("management_wrong_keys_total", {"result": result})


@pytest.fixture
def counted() -> Counted:
    return Counted()


def refused(ask: Callable[[], None]) -> int | None:
    """For how long, in milliseconds."""
    with pytest.raises(TooManyWrongKeys) as caught:
        ask()
    return caught.value.retry_after_ms


def test_after_ten_wrong_keys_a_place_waits_until_the_minute_is_over(counted: Counted) -> None:
    counted.shows("192.0.2.1", WRONG_KEYS_PER_MIN)
    counted.now += MINUTE_S - 0.25
    assert refused(lambda: counted.guesses.check("192.0.2.1")) == 250
    counted.now += 0.25
    counted.shows("192.0.2.1", WRONG_KEYS_PER_MIN)
    assert refused(lambda: counted.guesses.check("192.0.2.1")) == 60_000
    assert (counted.count("wrong"), counted.count("refused")) == (2 * WRONG_KEYS_PER_MIN, 2)


def test_who_is_elsewhere_does_not_wait(counted: Counted) -> None:
    counted.shows("192.0.2.1", WRONG_KEYS_PER_MIN)
    counted.shows("192.0.2.2")
    assert refused(lambda: counted.guesses.check("192.0.2.1")) is not None
    counted.guesses.check("192.0.2.2")


def test_being_refused_makes_nobody_wait_longer(counted: Counted) -> None:
    counted.shows("192.0.2.1", WRONG_KEYS_PER_MIN)
    for second in range(60):
        assert refused(lambda: counted.guesses.check("192.0.2.1")) == (60 - second) * 1000
        counted.now += 1
    counted.guesses.check("192.0.2.1")


def test_whoever_guesses_is_in_the_log_and_does_not_fill_it(counted: Counted, caplog: pytest.LogCaptureFixture) -> None:
    counted.shows("192.0.2.1", WRONG_KEYS_PER_MIN)
    for _ in range(1000):
        refused(lambda: counted.guesses.check("192.0.2.1"))
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        *['A wrong management key was shown. action="wrong_key" address="192.0.2.1"'] * WRONG_KEYS_PER_MIN,
        'Too many wrong management keys. action="wrong_keys_refused" address="192.0.2.1"',
    ]


def test_places_are_remembered_up_to_a_bound_and_those_that_are_over_go_first(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "PLACES_MAX", 3)
    counted.shows("first", WRONG_KEYS_PER_MIN)
    counted.now += MINUTE_S / 2
    for place in ("second", "third"):
        counted.shows(place, WRONG_KEYS_PER_MIN)
    refused(lambda: counted.guesses.check("first"))
    counted.shows("fourth", WRONG_KEYS_PER_MIN)
    counted.guesses.check("first")
    for place in ("second", "third", "fourth"):
        refused(lambda: counted.guesses.check(place))  # noqa: B023 (called at once)
    counted.now += MINUTE_S
    counted.shows("fifth")
    assert len(counted.guesses._minutes) == 1


def test_a_place_is_an_address_or_a_network_of_ipv6_and_is_short() -> None:
    def place(host: str) -> str:
        return place_of((host, 1))

    assert place("::ffff:10.0.0.7") == place("10.0.0.7") != place("::ffff:10.0.0.8")
    assert place("2001:db8::1") == place("2001:db8::2") != place("2001:db8:0:1::1")
    assert (place("a-proxy"), place_of(None)) == ("a-proxy", "unknown")
    assert len(place("x" * 60_000)) <= 64
