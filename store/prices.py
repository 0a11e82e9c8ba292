"""The price list: what customers pay for a model, and what an attempt costs the operator.

TOML, one table per price; prices are decimals, those of tokens for a million of them::

    [[price]]                       # what a customer is charged
    model = "gpt-4o"
    provider = "api.openai.com"     # left out: whatever provider answers
    currency = "USD"
    valid_from = 2026-01-01T00:00:00Z   # left out: always
    input = 2.50
    cached_input = 1.25             # left out: as input
    output = 10
    reasoning = 10                  # left out: as output
    per_request = 0
    per_image = 0

    [[cost]]                        # what it costs us; the same fields
    model = "gpt-4o"
    ...

A use that has no price has none: it is told as missing, never as 0.
"""

from __future__ import annotations

import datetime
import hashlib
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from store import amount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE_BYTES_MAX = 1024 * 1024
TOKENS_PRICED = 1_000_000
"""Prices of tokens are for so many."""
VERSION_CHARS = 12

Side = Literal["price", "cost"]
_DECIMALS = ("input", "cached_input", "output", "reasoning", "per_request", "per_image")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What a price is applied to. ``cached`` is part of ``prompt``, ``reasoning`` part of ``completion``."""

    model: str
    provider: str | None
    time_ms: int
    prompt: int
    completion: int
    cached: int
    reasoning: int
    images: int


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One table of the file. Amounts are nanos; those of tokens for :data:`TOKENS_PRICED` of them."""

    model: Name
    currency: str
    provider: Name | None = None
    valid_from: int = 0
    input: int | None = None
    cached_input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    per_request: int = 0
    per_image: int = 0

    def knows(self, use: Use) -> bool:
        """Whether everything used has a price."""
        return all(price is not None or not tokens for tokens, price in self._parts(use))

    def amount(self, use: Use) -> int | None:
        """Nanos, rounded half to even, once; None where something used has no price or the sum is beyond reason."""
        if not self.knows(use):
            return None
        tokens = _half_even(sum(tokens * (price or 0) for tokens, price in self._parts(use)), TOKENS_PRICED)
        total = tokens + self.per_request + use.images * self.per_image
        return total if total <= amount.AMOUNT_MAX else None

    def _parts(self, use: Use) -> tuple[tuple[int, int | None], ...]:
        """Tokens, and the price of a million of them."""
        cached, reasoning = min(use.cached, use.prompt), min(use.reasoning, use.completion)
        return (
            (use.prompt - cached, self.input),
            (cached, self.input if self.cached_input is None else self.cached_input),
            (use.completion - reasoning, self.output),
            (reasoning, self.output if self.reasoning is None else self.reasoning),
        )


class PriceList:
    """All prices of one file. ``version`` is another one for every other content, whatever its layout."""

    def __init__(self, prices: Sequence[Price] = (), costs: Sequence[Price] = ()) -> None:
        self.prices, self.costs = tuple(prices), tuple(costs)
        self.content = msgspec.json.encode({"price": self.prices, "cost": self.costs}).decode()
        self.version = hashlib.sha256(self.content.encode()).hexdigest()[:VERSION_CHARS]
        self._by_name: dict[tuple[Side, str, str | None], list[Price]] = {}
        each: tuple[tuple[Side, tuple[Price, ...]], ...] = (("price", self.prices), ("cost", self.costs))
        for side, found in each:
            for price in sorted(found, key=lambda price: -price.valid_from):
                self._by_name.setdefault((side, price.model, price.provider), []).append(price)

    @property
    def is_empty(self) -> bool:
        """Whether it has no price at all."""
        return not self._by_name

    def find(self, side: Side, model: str, provider: str | None, time_ms: int) -> Price | None:
        """The price at a time: the model's with this provider, else the model's own."""
        for name in (provider, None) if provider is not None else (None,):
            for price in self._by_name.get((side, model, name), ()):
                if price.valid_from <= time_ms:
                    return price
        return None

    def valid(self, model: str, time_ms: int) -> list[Price]:
        """What a customer might be charged by, whoever answers: one price for each provider, and the model's own."""
        names = {price.provider for price in self.prices if price.model == model}
        found = [self.find("price", model, name, time_ms) for name in names]
        return [price for price in found if price is not None]


def load(content: str) -> PriceList:
    """The list whose :attr:`PriceList.content` this is."""
    stored = msgspec.json.decode(content, type=dict[str, list[Price]])
    return PriceList(stored["price"], stored["cost"])


def read_prices(path: Path) -> PriceList:
    """The prices of a file. Raises ValueError with a sentence."""
    try:
        text = path.read_bytes()
    except OSError:
        raise ValueError("it names a file that cannot be read") from None
    if len(text) > FILE_BYTES_MAX:
        raise ValueError(f"the file has more than {FILE_BYTES_MAX} bytes")
    try:
        # Decimals stay decimals: a float of 0.1 is not 0.1.
        tables = tomllib.loads(text.decode(), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the file is no TOML: {error}") from None
    if strange := set(tables) - {"price", "cost"}:
        raise ValueError(f"the file has a table {min(strange)!r}: write [[price]] and [[cost]]")
    return PriceList(_prices(tables, "price"), _prices(tables, "cost"))


def _prices(tables: dict[str, Any], side: Side) -> list[Price]:
    found = tables.get(side, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ValueError(f"write [[{side}]], with two brackets, above each price")
    prices: list[Price] = []
    for number, table in enumerate(found, 1):
        try:
            price = msgspec.convert(_numbers(table), Price)
            if not amount.is_currency(price.currency):
                raise ValueError("currency is written like USD: three capital letters")
        except (msgspec.ValidationError, ValueError) as error:
            raise ValueError(f"[[{side}]] number {number}: {error}") from None
        if any(_place(price) == _place(other) for other in prices):
            raise ValueError(f"[[{side}]] number {number} is for the same model, provider and time as one before it")
        prices.append(price)
    return prices


def _place(price: Price) -> tuple[str, str | None, int]:
    return price.model, price.provider, price.valid_from


def _numbers(table: dict[str, Any]) -> dict[str, Any]:
    numbers = dict(table)
    for name in _DECIMALS:
        if name in numbers:
            value = numbers[name]
            if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
                raise ValueError(f"{name} is a decimal such as 2.50")
            try:
                numbers[name] = amount.parse(f"{value:f}" if isinstance(value, Decimal) else str(value))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    if "valid_from" in numbers:
        numbers["valid_from"] = _moment(numbers["valid_from"])
    return numbers


def _moment(value: Any) -> int:
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        # A date alone would mean another moment in each time zone.
        raise ValueError("valid_from is a time with a zone, such as 2026-01-01T00:00:00Z")
    return max(0, (value - _EPOCH) // datetime.timedelta(milliseconds=1))


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))
