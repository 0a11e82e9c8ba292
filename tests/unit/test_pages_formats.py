"""How numbers, times and amounts are written for people."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from management.pages import formats
from management.pages.charts import Chart, filled, stacked
from management.pages.filters import checked, chosen, link, moment, position, question_of
from management.reading.questions import EndsQuestion
from wire.errors import InvalidRequest


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (99_999, "99,999"), (100_000, "100k"), (999_499, "999k"), (999_500, "1M"), (4_281_000, "4.28M"),
     (2_500_000_000, "2.5B"), (10**13, "10T"), (None, "\N{EN DASH}")],
)  # fmt: skip
def test_large_numbers_keep_three_digits(value: int | None, text: str) -> None:
    assert formats.compact(value) == text


def test_a_number_that_is_shown_whole_has_its_thousands_apart() -> None:
    assert [formats.number(value) for value in (None, 0, 1_234_567)] == ["\N{EN DASH}", "0", "1,234,567"]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (1240, "1.24 s"), (5000, "5 s"), (9_994, "9.99 s"),
     (12_340, "12.3 s"), (60_000, "1 min 00 s"), (123_000, "2 min 03 s"), (3_599_000, "59 min 59 s"),
     (3_660_000, "1 h 01 min"), (86_400_000, "1 d 0 h"), (90_000_000, "1 d 1 h"), (None, "\N{EN DASH}")],
)  # fmt: skip
def test_a_duration_has_the_unit_that_fits(ms: int | None, text: str) -> None:
    assert formats.duration(ms) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [("1234.5", "1,234.50"), ("0.00", "0.00"), ("0.488", "0.49"), ("0.0803", "0.080"), ("0.0000375", "0.000038"),
     ("-2.5", "-2.50"), (17_675_000, "0.018"), (None, "\N{EN DASH}")],
)  # fmt: skip
def test_an_amount_that_is_not_nothing_is_never_shown_as_nothing(amount: str | int | None, text: str) -> None:
    assert formats.money(amount) == text


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0.000000"), (17_675_000, "0.017675"), (10_000, "0.000010"), (9_999, "0.0000100"), (340, "0.00000034"),
     (1, "0.0000000010"), (1_234_500_000_000, "1,234.500000")],
)  # fmt: skip
def test_what_a_request_costs_is_never_shown_as_nothing(nanos: int, text: str) -> None:
    assert formats.micro(nanos) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "just now"), (999, "just now"), (1000, "1 s ago"), (59_999, "59 s ago"), (60_000, "1 min ago"),
     (3_600_000, "1 h ago"), (86_399_999, "23 h ago"), (86_400_000, "1 d ago"), (-5000, "just now")],
)  # fmt: skip
def test_what_is_past_is_told_in_the_largest_unit_that_fits(ms: int, text: str) -> None:
    assert formats.ago(10**12 - ms, 10**12) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20, "1.0 MiB"), (2**30 * 3 // 2, "1.5 GiB"),
     (None, "\N{EN DASH}")],
)  # fmt: skip
def test_a_size_has_the_unit_that_fits(count: int | None, text: str) -> None:
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("part", "whole", "percent"), [(1, 4, 25), (0, 4, 0), (2, 3, 67), (9, 4, 100), (0, 0, 0), (3, 0, 0), (-1, 4, 0)]
)
def test_a_part_is_never_less_than_nothing_nor_more_than_the_whole(part: int, whole: int, percent: int) -> None:
    assert formats.percent(part, whole) == percent


def test_times_are_those_of_the_ledgers_zone() -> None:
    shown = formats.filters(ZoneInfo("Europe/Berlin"))
    new_year = int(datetime.datetime(2026, 12, 31, 23, 30, tzinfo=datetime.UTC).timestamp() * 1000)
    assert shown["full"](new_year) == "2027-01-01 00:30:00.000 CET"
    # Of the hour that is there twice in October, too, it is known which is meant.
    autumn = int(datetime.datetime(2026, 10, 25, 0, 30, tzinfo=datetime.UTC).timestamp() * 1000)
    told = [shown["full"](autumn + hours * 3_600_000) for hours in (0, 1)]
    assert told == ["2026-10-25 02:30:00.000 CEST", "2026-10-25 02:30:00.000 CET"]
    assert shown["when"](new_year, new_year) == "00:30:00"
    assert shown["when"](new_year - 3_600_000, new_year) == "31 Dec 23:30"
    assert shown["when"](new_year + 86_400_000, new_year) == "2 Jan 00:30"
    assert shown["when"](new_year - 200 * 86_400_000, new_year) == "15 Jun 2026"
    assert shown["when"](new_year + 200 * 86_400_000, new_year) == "20 Jul 2027"
    assert shown["when"](2**53 - 1, new_year) == "30 Dec 9999"
    assert moment("2026-07-01T12:00", ZoneInfo("Europe/Berlin"), "from") == "2026-07-01T12:00:00+02:00"
    with pytest.raises(InvalidRequest, match="from: write it as"):
        moment("yesterday", datetime.UTC, "from")


def test_what_is_no_json_is_shown_as_it_is() -> None:
    assert formats.pretty('{"a":"größe"}') == '{\n  "a": "größe"\n}'
    assert formats.pretty("{") == "{"
    assert formats.pretty("[" * 100_000) == "[" * 100_000


def test_a_link_begins_at_the_first_page_and_leaves_out_what_is_none() -> None:
    asked = {"model": "a b&c", "cursor": "7-1"}
    assert link("/requests", asked) == "/requests?model=a+b%26c"
    assert link("/requests", asked, model=None) == "/requests"
    assert link("/requests", asked, cursor="9-9") == "/requests?model=a+b%26c&cursor=9-9"


def test_what_an_address_asks_for_is_what_a_page_offers() -> None:
    choices = ("30", "7")
    assert [chosen(asked, "days", choices) for asked in ({}, {"days": "7"}, {"by": "x"})] == ["30", "7", "30"]
    with pytest.raises(InvalidRequest, match=r"^days: choose one of 30, 7\.$"):
        chosen({"days": "8"}, "days", choices)
    assert [position(cursor) for cursor in (None, "0", "9" * 18)] == [None, 0, 10**18 - 1]
    for wrong in ("", "-1", "x", "\N{SUPERSCRIPT TWO}", "9" * 19):
        with pytest.raises(InvalidRequest, match="it was not made by this page"):
            position(wrong)
    with pytest.raises(InvalidRequest, match=r"^model: string should have at most 512 characters\.$"):
        question_of(EndsQuestion, model="x" * 513)
    assert checked(lambda: 7) == 7


def test_a_chart_has_every_day_and_what_no_series_has() -> None:
    first, last = datetime.date(2026, 2, 27), datetime.date(2026, 3, 1)
    whole = [{"day": first, "tokens": 10}, {"day": last, "tokens": 5}]
    parts = [{"day": first, "name": "a", "tokens": 7}]
    chart = stacked("Tokens", first, last, "tokens", whole, parts, ["a"])
    assert chart.series == [("a", [7, 0, 0]), ("others", [3, 0, 5])]
    assert [later - earlier for earlier, later in zip(chart.days, chart.days[1:], strict=False)] == [86_400, 86_400]
    assert chart.total([3, 0, 5]) == "8"
    assert Chart("Charged", *filled(first, last, {first: 0.5}), "money").unit == "money"  # type: ignore[arg-type]


def test_a_chart_without_names_has_the_whole_and_one_of_tags_nothing_that_is_less_than_none() -> None:
    first, last = datetime.date(2026, 2, 28), datetime.date(2026, 3, 1)
    whole = [{"day": first, "requests": 4}, {"day": last, "requests": 3}]
    assert stacked("Requests", first, last, "requests", whole, [], []).series == [("requests", [4, 3])]
    parts = [{"day": first, "name": name, "requests": 4} for name in ("a=1", "")]
    chart = stacked("Requests", first, last, "requests", whole, parts, ["a=1", ""])
    assert chart.series == [("a=1", [4, 0]), ("none", [4, 0]), ("others", [0, 3])]
    assert [name for name, _ in stacked("R", first, first, "requests", whole[:1], parts, ["a=1"]).series] == ["a=1"]
    paid = Chart("Charged", chart.days, [("EUR", [0.5, 0.25])], "money")
    assert paid.total([0.5, 0.25]) == "0.75"
    assert paid.data == {
        "title": "Charged",
        "days": chart.days,
        "series": [{"label": "EUR", "values": [0.5, 0.25]}],
        "unit": "money",
    }
