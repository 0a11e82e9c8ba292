"""The overview: what happens now, what was used, and what needs a person."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from management.pages import usage_sums
from management.pages.charts import Chart, filled, stacked
from management.pages.filters import question_of
from management.pages.fleet import in_passing, open_alerts
from management.pages.requests import ends
from management.pages.words import BUDGETS, NODES
from management.reading.fleet_queries import LETTERS_COUNTED_MAX, letters_by_model
from management.reading.questions import EndsQuestion, UsageQuestion
from management.reading.sum_queries import amount_of
from process.identity import now_ms
from store import amount, budgets
from store.database import reading

if TYPE_CHECKING:
    from starlette.responses import Response

    from management.pages.site import Sources, Visit

DAYS = 14
LATEST = 8
TROUBLES_MAX = 8


class Trouble(NamedTuple):
    """Something that a person should look at, and where."""

    tone: str
    word: str
    what: str
    sentence: str
    href: str


async def show(visit: Visit) -> Response:
    """The page."""
    sources, now = visit.sources, now_ms()
    today = sources.books.day(now)
    first = today - datetime.timedelta(days=DAYS - 1)
    question = question_of(UsageQuestion, by=["day"], since=first.isoformat(), until=today.isoformat())
    days, money, dead = await sources.rows(
        usage_sums.daily(question, []), usage_sums.charged(question, "day"), letters_by_model()
    )
    used = {row["day"]: row for row in days}
    latest, _ = await ends(sources, EndsQuestion(limit=LATEST))
    models = await sources.view.models(now)
    spent, more_spent = await _budget_troubles(sources, now)
    troubles = _troubles(sources, sum(row["count"] for row in dead), await open_alerts(sources), spent)
    return visit.page(
        "overview.html",
        today=used.get(today),
        yesterday=used.get(today - datetime.timedelta(days=1)),
        charged=usage_sums.by_currency([row for row in money if row["name"] == today]),
        models=models,
        nodes=sum(model["nodes"] for model in models),
        ready=sum(model["ready"] for model in models),
        slots=sum(model["slots"] for model in models),
        busy=sum(model["busy"] for model in models),
        waiting=sum(model["waiting"] for model in models),
        troubles=troubles[:TROUBLES_MAX],
        more_troubles=len(troubles[TROUBLES_MAX:]) + more_spent,
        latest=latest,
        charts=_charts(first, today, days, money) if days else [],
    )


def _charts(first: datetime.date, last: datetime.date, days: Any, money: Any) -> list[Chart]:
    charts = [stacked("Requests a day", first, last, "requests", days, [], [])]
    for currency, _ in usage_sums.by_currency(money)[:1]:
        by_day = {row["name"]: amount_of(row) / amount.NANOS for row in money if row["currency"] == currency}
        midnights, values = filled(first, last, by_day)
        charts.append(Chart(f"Charged a day, {currency}", midnights, [(currency, values)], "money"))
    return charts


def _troubles(sources: Sources, dead: int, alerts: list[dict[str, Any]], spent: list[Trouble]) -> list[Trouble]:
    found = [Trouble("bad", "Not ready", "Management", each, "/health") for each in sources.readiness.sentences]
    if dead:
        many = f"{dead}{'+' if dead == LETTERS_COUNTED_MAX else ''} {'request' if dead == 1 else 'requests'}"
        sentence = f"took three nodes along, and {'waits' if dead == 1 else 'wait'} for you."
        found.append(Trouble("bad", "Dead letters", many, sentence, "/dead-letters"))
    for alert in alerts:
        word, tone = NODES.get(alert["code"], (alert["code"], "bad"))
        found.append(Trouble(tone, word, alert["model"], f"{alert['sentence']} {alert['remedy']}", "/errors"))
    found += spent
    # What helps itself comes last: however much of it there is, it hides nothing that waits for a person.
    for node in in_passing(sources):
        word, tone = NODES[node.state]
        found.append(Trouble(tone, word, node.name, node.sentence or "It tries again by itself.", "/nodes"))
    return found


async def _budget_troubles(sources: Sources, now: int) -> tuple[list[Trouble], int]:
    """The first of them, and how many more there are."""
    async with reading(sources.engine) as connection:
        day = await budgets.today(connection, now)
        found, count = await budgets.in_trouble(connection, day, TROUBLES_MAX)
    told = {"warning": "is nearly spent.", "exhausted": "is spent: requests are refused."}
    periods = {"day": "for the day", "month": "for the month", "total": "in all"}
    troubles = [
        Trouble(tone, word, budget.id.subject, f"The budget {periods[budget.id.period]} {told[state]}", "/keys")
        for budget, state in found
        for word, tone in (BUDGETS[state],)
    ]
    return troubles, count - len(troubles)
