"""What a chart shows. The scripts draw it; without them the tables beside it tell the same."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from management.pages.formats import compact, money
from store import amount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OTHERS = "others"


@dataclass(frozen=True)
class Chart:
    """Bars by day, series upon series. ``days`` are the midnights of these dates in UTC, in Unix seconds."""

    title: str
    days: list[int]
    series: list[tuple[str, list[float]]]
    unit: Literal["count", "money"] = "count"

    def total(self, values: list[float]) -> str:
        """The sum of a series, for people."""
        return money(round(sum(values) * amount.NANOS)) if self.unit == "money" else compact(round(sum(values)))

    @property
    def data(self) -> dict[str, Any]:
        """As the script reads it."""
        series = [{"label": label, "values": values} for label, values in self.series]
        return {"title": self.title, "days": self.days, "series": series, "unit": self.unit}


def filled(
    first: datetime.date, last: datetime.date, by_day: Mapping[datetime.date, float]
) -> tuple[list[int], list[float]]:
    """Every day from the first to the last, and its value or 0."""
    dates = [first + datetime.timedelta(days=number) for number in range((last - first).days + 1)]
    midnights = [int(datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp()) for date in dates]
    return midnights, [by_day.get(date, 0) for date in dates]


def stacked(
    title: str,
    first: datetime.date,
    last: datetime.date,
    measure: str,
    whole: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> Chart:
    """One series for each name, and one for what is left; without names one for the whole."""
    days, all_ = filled(first, last, {row["day"]: row[measure] for row in whole})
    series: list[tuple[str, list[float]]] = []
    for name in names:
        _, values = filled(first, last, {row["day"]: row[measure] for row in parts if row["name"] == name})
        series.append((name or "none", values))
    rest = [total - sum(values[day] for _, values in series) for day, total in enumerate(all_)]
    if not names:
        series.append((measure, all_))
    elif any(value > 0 for value in rest):
        # A request with several tags is in several series: then nothing may be left.
        series.append((OTHERS, [max(0, value) for value in rest]))
    return Chart(title, days, series)
