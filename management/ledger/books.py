"""What sums are made with: whose days the days are, and which prices hold. Pure."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from store.prices import PriceList

if TYPE_CHECKING:
    from store.prices import Use


@dataclass(frozen=True, slots=True)
class Priced:
    """What a use is worth, in nanos. None where there is no price, or nobody is charged."""

    version: str
    amount: int | None = None
    currency: str | None = None
    cost: int | None = None
    cost_currency: str | None = None


@dataclass(frozen=True)
class Books:
    """``time_zone`` is where days begin. ``prices`` hold for what is new; what was priced before keeps its version.

    ``keeps_prompts``: whether a prompt that a gateway tells is stored.
    """

    time_zone: datetime.tzinfo = datetime.UTC
    prices: PriceList = field(default_factory=PriceList)
    keeps_prompts: bool = False

    @property
    def zone_name(self) -> str:
        """By which the ledger remembers the zone."""
        return str(self.time_zone)

    def day(self, time_ms: int) -> datetime.date:
        """The day to which something is counted."""
        return datetime.datetime.fromtimestamp(time_ms // 1000, self.time_zone).date()

    def yesterday(self, now_ms: int) -> datetime.date:
        """The last day that is over."""
        return self.day(now_ms) - datetime.timedelta(days=1)

    def begins_ms(self, day: datetime.date) -> int:
        """The first moment of a day."""
        # Midnight, or a whole day, may not exist where clocks change; the moment that would be it is then the change.
        midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=self.time_zone)
        return int(midnight.timestamp()) * 1000


def price(use: Use, prices: PriceList, *, is_charged: bool) -> Priced:
    """What a use is worth by these prices."""
    amount = currency = cost = cost_currency = None
    if is_charged and (found := prices.find("price", use.model, use.provider, use.time_ms)) is not None:
        amount = found.amount(use)
        currency = found.currency if amount is not None else None
    if (found := prices.find("cost", use.model, use.provider, use.time_ms)) is not None:
        cost = found.amount(use)
        cost_currency = found.currency if cost is not None else None
    return Priced(prices.version, amount, currency, cost, cost_currency)
