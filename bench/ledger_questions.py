"""What the benchmark asks the ledger: paths of the REST API and of the dashboard, by what they show."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import combinations
from typing import get_args

from management.reading.questions import By, CostBy, CostsQuestion, UsageQuestion
from management.reading.sum_queries import days_max

SINCE, DAYS = date(2026, 6, 20), 90


def _groupings() -> dict[str, str]:
    """Every one that the API allows, of all days or of as many as it allows."""
    found = {}
    for path, kind, names in (("usage", UsageQuestion, get_args(By)), ("costs", CostsQuestion, get_args(CostBy))):
        for count in range(1, len(names) + 1):
            for by in combinations(names, count):
                asked = "&".join(f"by={name}" for name in by)
                if days := days_max(kind(by=list(by))):
                    asked += f"&since={SINCE}&until={SINCE + timedelta(days=days - 1)}"
                found[f"{path}, {days or DAYS} days by {', '.join(by)}"] = f"{path}?{asked}"
    return found


QUESTIONS = {
    "charges": "charges",
    "charges, of a key": "charges?key_id=key-7",
    "charges, of a model": "charges?model=model-3",
    "charges, of a key and a model": "charges?key_id=key-7&model=model-3",
    "charges, of a node": "charges?node=node-1-2-0123456789abcdef",
    "charges, of one hour long ago": "charges?since=2026-06-20T10:00:00Z&until=2026-06-20T11:00:00Z",
    "charges, of a key, long ago": "charges?key_id=key-7&until=2026-06-10T00:00:00Z",
    "charges, 1,000": "charges?limit=1000",
    "ends": "ends",
    "ends, failed": "ends?status=failed",
    "ends, of a node": "ends?node=node-1-2-0123456789abcdef",
    "events": "events",
    "events, of a type": "events?type=request.billed",
    "events, of a node": "events?node=node-1-2-0123456789abcdef",
    "usage, one day by key": "usage?by=key&since=2026-06-20&until=2026-06-20",
    "usage, 30 days by day": "usage?by=day&since=2026-06-20&until=2026-07-19",
    "usage, 30 days by model and key": "usage?by=model&by=key&since=2026-06-20&until=2026-07-19",
    "usage, a key's 90 days by day": "usage?by=day&key_id=key-7",
    "usage, a team's 30 days by model": "usage?by=model&tag=team%3Dteam-3&since=2026-06-20&until=2026-07-19",
    "usage, all 90 days": "usage",
    "usage, a key's 90 days by model": "usage?by=model&key_id=key-7",
    "usage, a key's 90 days by node": "usage?by=node&key_id=key-7",
    "usage, a key's 90 days by tag": "usage?by=tag&key_id=key-7",
    "usage, a key's 31 days by node and tag": "usage?by=node&by=tag&key_id=key-7&since=2026-06-20&until=2026-07-20",
    "usage, a node's 90 days by key": "usage?by=key&node=node-1-2-0123456789abcdef",
    "usage, a team's 90 days by model and key": "usage?by=model&by=key&tag=team%3Dteam-3",
    **_groupings(),
    "costs, 30 days by provider": "costs?by=provider&since=2026-06-20&until=2026-07-19",
    "budgets": "budgets",
    "nodes": "nodes",
    "models": "models",
    "dead letters": "dead-letters",
    "dead letters, of a model (none)": "dead-letters?model=model-3",
    "errors, 7 days": "errors",
    "errors, 7 days, of a key": "errors?key_id=key-7",
    "errors, 7 days, of a model": "errors?model=model-3",
    "errors, since the first day": "errors?since=2026-05-01",
}
PAGES = {
    "overview": "",
    **{
        f"usage, {days} days by {by}": f"usage?days={days}&by={by}"
        for days in (30, 90, 365)
        for by in ("model", "key", "tag")
    },
    "usage, 365 days by day": "usage?days=365&by=day",
    "usage, 365 days of a key by model": "usage?days=365&by=model&key_id=key-7",
    "usage, 365 days of a key by node": "usage?days=365&by=node&key_id=key-7",
    "usage, 365 days of a key by tag": "usage?days=365&by=tag&key_id=key-7",
    "usage, 365 days of a node by key": "usage?days=365&by=key&node=node-1-2-0123456789abcdef",
    "usage, 365 days of a tag by key": "usage?days=365&by=key&tag=team%3Dteam-3",
    "usage, 365 days of a model by key": "usage?days=365&by=key&model=model-3",
    "errors": "errors",
    "errors of a key": "errors?key_id=key-7",
    "errors of requests, one by one": "errors?of=requests",
    "requests": "requests",
    "requests of a key": "requests?key_id=key-7",
    "requests of a key and a model": "requests?key_id=key-7&model=model-3",
    "requests that failed": "requests?status=failed",
    "dead letters of a model (none)": "dead-letters?model=model-3",
    "models": "models",
    "nodes": "nodes",
    "keys": "keys",
}
"""Of the dashboard. Its days end today, and those of the rows end in August: a year has all of them."""
