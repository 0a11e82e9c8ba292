"""Cost and usage: sums by model, key, tag, node or day, with charts, and the same as CSV."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from management.ledger.sums import UNPRICED
from management.pages import usage_sums
from management.pages.charts import Chart, filled, stacked
from management.pages.filters import chosen, link, question_of
from management.pages.usage_sums import COLUMNS, MEASURES
from management.reading.export import csv_line, safe_cell
from management.reading.questions import UsageQuestion
from management.reading.sum_queries import amount_of
from process.identity import now_ms
from store import amount
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from management.pages.site import Visit

ROWS = 50
SPANS = ("30", "7", "90", "365")
"""Days that are shown together."""
CHART_SERIES = 5
CSV_ROWS_MAX = 100_000
BY = tuple(COLUMNS)
_WHOLE = ("requests", "tokens", "prompt_tokens", "completion_tokens")
_FILTERS = ("model", "key_id", "tag", "node")


async def show(visit: Visit) -> Response:
    """The page."""
    asked = visit.asked
    question, measure = _question(visit), chosen(asked, "measure", MEASURES)
    by = question.by[0]
    every = question.model_copy(update={"by": ["day"]})  # a request with two tags is there once
    async with visit.sources.asking() as rows:  # one state of the ledger for the sums and for what is charged for them
        page = await rows(usage_sums.sums(question, measure, _after(asked.get("cursor"), by), ROWS))
        more, page = len(page) > ROWS, page[:ROWS]
        names = [row["name"] for row in page]
        top = names[:CHART_SERIES] if by != "day" and "cursor" not in asked else []
        days, money = await rows(usage_sums.daily(every, [])), await rows(usage_sums.money(every))
        parts = await rows(usage_sums.daily(question, top))
        amounts = await rows(usage_sums.charged(question, COLUMNS[by], names))
    _add_amounts(page, amounts)
    whole = {name: sum(row[name] for row in days) for name in _WHOLE}
    charged = [row for row in money if row["side"] == "charge"]
    wasted = [row for row in money if row["side"] == "waste"]
    first, last = question.since, question.until
    assert first is not None
    assert last is not None
    return visit.page(
        "usage.html",
        asked=asked,
        link=lambda **changes: link("/usage", asked, **changes),
        by=by,
        measure=measure,
        span=asked.get("days", SPANS[0]),
        spans=SPANS,
        rows=page,
        whole=whole,
        charged=usage_sums.by_currency(charged),
        unpriced=sum(row["requests"] for row in charged if row["currency"] == UNPRICED),
        costs=usage_sums.by_currency([row for row in money if row["side"] == "cost"]),
        wasted=usage_sums.by_currency(wasted),
        wasted_unpriced=sum(row["requests"] for row in wasted if row["currency"] == UNPRICED),
        charts=[
            stacked(f"{measure.capitalize()} a day", first, last, measure, days, parts if top else [], top),
            *_money_charts(first, last, charged),
        ]
        if whole["requests"]
        else [],
        next_link=link("/usage", asked, cursor=f"{page[-1][measure]}~{page[-1]['name']}") if more else None,
        first=first,
        last=last,
    )


async def download(visit: Visit) -> Response:
    """The same sums, all of them, for a spreadsheet."""
    question = _question(visit)
    measure = chosen(visit.asked, "measure", MEASURES)
    rows, amounts = await visit.sources.rows(
        usage_sums.sums(question, measure, None, CSV_ROWS_MAX), usage_sums.charged(question, COLUMNS[question.by[0]])
    )
    more, rows = len(rows) > CSV_ROWS_MAX, rows[:CSV_ROWS_MAX]
    _add_amounts(rows, amounts)
    currencies = sorted({row["currency"] for row in amounts} - {UNPRICED})
    columns = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    # The mark at the beginning has spreadsheets read it as UTF-8.
    lines = ["\ufeff" + csv_line([question.by[0], *columns, *currencies, "unpriced_requests"])]
    for row in rows:
        found = dict(row["amounts"])
        shown = [amount.shown(found[each]) if each in found else "" for each in currencies]
        cells = [safe_cell(str(row["name"])), *(str(row[name]) for name in columns), *shown, str(row["unpriced"])]
        lines.append(csv_line(cells))
    if more:
        lines.append(csv_line([f"There are more: these are the first {CSV_ROWS_MAX}."]))
    headers = {"content-disposition": 'attachment; filename="usage.csv"', "cache-control": "no-store"}
    return Response("".join(lines), media_type="text/csv", headers=headers)


def _question(visit: Visit) -> UsageQuestion:
    asked = visit.asked
    days = int(chosen(asked, "days", SPANS))
    today = visit.sources.books.day(now_ms())
    filters = {name: asked[name] for name in _FILTERS if name in asked}
    since = (today - datetime.timedelta(days=days - 1)).isoformat()
    return question_of(
        UsageQuestion, by=[chosen(asked, "by", BY)], since=since, until=today.isoformat(), limit=ROWS, **filters
    )


def _after(cursor: str | None, by: str) -> tuple[int, str | datetime.date] | None:
    if cursor is None:
        return None
    number, _, name = cursor.partition("~")
    try:
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise ValueError
        return int(number), datetime.date.fromisoformat(name) if by == "day" else name
    except ValueError:
        raise InvalidRequest("cursor: it was not made by this page.") from None


def _add_amounts(page: list[dict[str, Any]], amounts: list[dict[str, Any]]) -> None:
    found: dict[Any, dict[str, dict[str, Any]]] = {}
    for row in amounts:
        found.setdefault(row["name"], {})[row["currency"]] = row
    for row in page:
        money = found.get(row["name"], {})
        row["amounts"] = [(name, amount_of(each)) for name, each in money.items() if name != UNPRICED]
        priced = sum(each["requests"] for name, each in money.items() if name != UNPRICED)
        row["unpriced"] = row["requests"] - priced


def _money_charts(first: datetime.date, last: datetime.date, money: list[dict[str, Any]]) -> list[Chart]:
    charts = []
    for currency, _ in usage_sums.by_currency(money)[:2]:
        by_day = {row["name"]: amount_of(row) / amount.NANOS for row in money if row["currency"] == currency}
        days, values = filled(first, last, by_day)
        charts.append(Chart(f"Charged a day, {currency}", days, [(currency, values)], "money"))
    return charts
